// Who this is, without a login: a browser has an id for good, and a tab one until it is closed.

const BROWSER = "roost:browser"
const TAB = "roost:tab"

let tab = null

const make = () =>
  globalThis.crypto?.randomUUID?.() ??
  // Pages that came over plain HTTP have no randomUUID.
  Array.from({ length: 4 }, () => Math.random().toString(36).slice(2, 10).padEnd(8, "0")).join("-")

/** The id of this browser, the same in all of its tabs, kept in `localStorage`. */
export function browserId(storage = storageNamed("localStorage")) {
  const id = storage?.getItem(BROWSER) || make()
  storage?.setItem(BROWSER, id)
  return id
}

/**
 * The id of this tab, which stays the same when it is reloaded.
 *
 * It lies in `sessionStorage` only while no page is shown: a tab that is duplicated gets a copy of
 * the storage, and is another tab.
 */
export function tabId(storage = storageNamed("sessionStorage"), page = globalThis.window) {
  if (tab) return tab
  tab = storage?.getItem(TAB) || make()
  storage?.removeItem(TAB)
  page?.addEventListener?.("pagehide", () => storage?.setItem(TAB, tab))
  page?.addEventListener?.("pageshow", () => storage?.removeItem(TAB))
  return tab
}

/** Both ids as params of a socket: `new Socket("/socket", { params: identity })`. */
export const identity = () => ({ browser_id: browserId(), tab_id: tabId() })

function storageNamed(name) {
  try {
    return globalThis[name]
  } catch {
    return undefined // it is forbidden to this page
  }
}
