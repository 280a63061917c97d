// A page that was written for the npm package phoenix.

import { Channel, LongPoll, Presence, Serializer, Socket } from "phoenix"

const socket = new Socket("/socket", {
  params: { token: "t" },
  longPollFallbackMs: 2_500,
  transport: WebSocket,
})
const polling = new Socket("/socket", { transport: LongPoll, debug: true })
polling.connect()
socket.onError((error, transport, count) => console.log(error, transport, count))
const ref = socket.onOpen(() => console.log("open"))
socket.off([ref])

const channel: Channel = socket.channel("room:lobby", { a: 1 })
const binding = channel.on("anything", (payload) => console.log(payload.what.ever))
channel.off("anything", binding)
channel
  .join()
  .receive("ok", (response) => console.log(response.messages))
  .receive("error", ({ reason }) => console.log(reason))
channel.push("anything", { a: 1 }).receive("custom", (response) => console.log(response))
channel.push("binary", new ArrayBuffer(8))
channel.onError(() => console.log("error"))
channel.leave().receive("ok", () => console.log("left"))

let presences = {}
channel.on("presence_state", (state) => {
  presences = Presence.syncState(presences, state, (key, current, joined) =>
    console.log(key, current, joined.metas[0]!.name),
  )
})
const presence = new Presence(channel, { events: { state: "s", diff: "d" } })
presence.list((id, { metas: [first, ...rest] }) => ({
  id,
  first: first!.online_at,
  count: rest.length + 1,
}))
Serializer.encode({ topic: "t", event: "e", payload: {} }, (encoded) => console.log(encoded))
