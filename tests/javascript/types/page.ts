// A page that says what goes over its channel, and what metas are like.

import { Activity, identity, lists, messages, Presence, PushError, Socket } from "@roost/client"

interface Room {
  reply: { seat: number }
  error: { reason: string }
  events: { shout: { from: string; body: string }; cleared: {} }
  pushes: {
    shout: { payload: { body: string }; reply: { id: number }; error: { reason: string } }
    status: { payload: { status: "active" | "away" }; reply: {} }
    clear: {}
  }
}

interface Meta {
  online_at: number
  status: "active" | "away"
}

interface User {
  user: { name: string; avatar: string }
}

const token: () => Promise<string | null> = async () => null
const socket = new Socket("/socket", {
  authToken: token,
  jitter: 0.5,
  isLogout: async ({ code }) => code === 4401,
  params: () => ({ ...identity(), page: 1 }),
})
socket.addEventListener("logout", () => location.assign("/login"))
socket.onClose(({ code, wasClean }) => console.log(code.toFixed(), wasClean))
socket.connect()

const channel = socket.channel<Room>("room:lobby", () => ({ last: 1 }))
channel.on("shout", ({ from, body }) => console.log(from.length, body.length))
channel.on("phx_error", (reason) => console.log(reason))
channel.addEventListener("shout", ({ detail }) => console.log(detail.body.length))

const presence = new Presence<Meta, User>(channel)
presence.onJoin((key, current, { metas, user }) => {
  const before: number = current?.metas.length ?? 0
  console.log(key, before, user.name, metas[0]?.online_at.toFixed(), metas[0]?.phx_ref)
})
presence.onLeave((_key, current, left) => console.log(current.metas.length, left.user.avatar))
presence.onSync(() => {
  const names: string[] = presence.list((_key, { user }) => user.name)
  console.log(names, presence.count().users, presence.isCounted)
})
presence.addEventListener("leave", ({ detail: { key, left } }) => console.log(key, left.metas))

const { seat } = await channel.join()
console.log(seat.toFixed())
channel
  .push("shout", { body: "hi" })
  .receive("ok", ({ id }) => console.log(id.toFixed()))
  .receive("error", ({ reason }) => console.log(reason.length))
  .receive("timeout", () => console.log("late"))
channel.push("clear")
try {
  const { id }: { id: number } = await channel.push("shout", { body: "hi" }, 5_000)
  console.log(id)
} catch (error) {
  if (error instanceof PushError) console.log(error.status, error.response.reason)
}
new Activity({ idleAfterMs: 60_000 }).onChange((status) => channel.push("status", { status }))

for await (const { body } of messages(channel, "shout", { limit: 10 })) console.log(body.length)
for await (const people of lists(presence, (key) => key)) console.log(people.join())
