// Each of these lines is refused.

import { messages, Presence, Socket } from "@roost/client"

interface Room {
  reply: { seat: number }
  events: { shout: { body: string } }
  pushes: { shout: { payload: { body: string }; reply: { id: number } } }
}

const socket = new Socket("/socket")
const channel = socket.channel<Room>("room:1")
const presence = new Presence<{ online_at: number }, { user: string }>(channel)

// @ts-expect-error: no such field of a meta
presence.onJoin((_key, _current, { metas }) => console.log(metas[0]!.onlin_at))
// @ts-expect-error: of another type
presence.list((_key, { metas }) => metas[0]!.online_at.length)
// @ts-expect-error: no such field of an entry
presence.list((_key, { name }) => name)
// @ts-expect-error: there may be none
presence.onJoin((_key, current) => console.log(current.metas))
// @ts-expect-error: no such event
channel.on("shuot", () => {})
// @ts-expect-error: no such field of an event
channel.on("shout", ({ text }) => console.log(text))
// @ts-expect-error: no such push
channel.push("shuot", { body: "hi" })
// @ts-expect-error: another payload
channel.push("shout", { text: "hi" })
// @ts-expect-error: no payload
channel.push("shout")
// @ts-expect-error: no such field of the reply
channel.push("shout", { body: "hi" }).receive("ok", ({ number }) => console.log(number))
// @ts-expect-error: no such field of the join's reply
console.log((await channel.join()).place)
// @ts-expect-error: no such option
new Socket("/socket", { heartbeatInterval: 1 })
// @ts-expect-error: no such event of a socket
socket.addEventListener("lougout", () => {})
// @ts-expect-error: no such event
messages(channel, "shuot")
