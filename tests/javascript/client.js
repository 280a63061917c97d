// The client under test: ours, or the folder that CLIENT names (a copy with a planted bug in it).

const folder =
  globalThis.process?.env.CLIENT ?? new URL("../../clients/js", import.meta.url).pathname

export const {
  Activity,
  browserId,
  Channel,
  identity,
  lists,
  LongPoll,
  messages,
  Presence,
  Push,
  PushError,
  Serializer,
  Socket,
  tabId,
  Timer,
} = await import(`${folder}/index.js`)
export const { default: Ajax } = await import(`${folder}/ajax.js`)

/** A module of the client as a page has it that was just loaded. */
export const reloaded = (name) => import(`${folder}/${name}?${Math.random()}`)

/** A module of the client. */
export const module = (name) => import(`${folder}/${name}`)
