import assert from "node:assert/strict"
import { test } from "node:test"
import { messages, PushError, Socket } from "./client.js"
import { FakeWebSocket, fakeWorld, joined, noted, opened, settled } from "./fakes.js"

const world = fakeWorld()
const sent = () =>
  FakeWebSocket.last.messages.map(([joinRef, ref, , event]) => [joinRef, ref, event])

/** A socket that is connected, and a channel that nobody has joined yet. */
function fresh(options) {
  const socket = new Socket("/socket", options)
  const conn = opened(socket)
  return { socket, conn, channel: socket.channel("room:1", { a: 1 }) }
}

test("a new channel is closed, and has the socket's timeout", () => {
  const socket = new Socket("/socket", { timeout: 1234 })
  const channel = socket.channel("room:1", { a: 1 })

  assert.equal(channel.state, "closed")
  assert.equal(channel.isClosed(), true)
  assert.equal(channel.topic, "room:1")
  assert.deepEqual(channel.params(), { a: 1 })
  assert.equal(channel.timeout, 1234)
  assert.equal(channel.joinedOnce, false)
  assert.deepEqual(channel.pushBuffer, [])
  assert.equal(channel.joinPush.event, "phx_join")
  assert.equal(channel.joinPush.timeout, 1234)
})

test("the first join of a fresh socket has ref 3", () => {
  const { conn, channel } = fresh()
  const push = channel.join()

  assert.equal(push, channel.joinPush)
  assert.deepEqual(conn.messages, [["3", "3", "room:1", "phx_join", { a: 1 }]])
  assert.equal(channel.state, "joining")
  assert.equal(channel.joinRef(), "3")
})

test("a join is answered once, and its callbacks are called", () => {
  const { conn, channel } = fresh()
  const ok = noted()
  channel
    .join()
    .receive("ok", ok)
    .receive("error", () => assert.fail())
  conn.replies("ok", { one: "two" })

  assert.equal(channel.state, "joined")
  assert.deepEqual(ok.calls, [[{ one: "two" }]])
  channel.joinPush.receive("ok", ok)
  assert.equal(ok.calls.length, 2) // at once, as it was answered
})

test("a channel joins once", () => {
  const { channel } = fresh()
  channel.join()

  assert.throws(() => channel.join(), /^Error: tried to join multiple times/)
})

test("a join sets the timeout of the channel", () => {
  const { channel } = fresh()
  channel.join(500)

  assert.equal(channel.timeout, 500)
  assert.equal(channel.joinPush.timeout, 500)
})

test("a refused join is tried again after 1, 2, 5 and 10 s", () => {
  const { conn, channel } = fresh()
  channel.join()
  const waits = []
  for (let tries = 0; tries < 5; tries++) {
    conn.replies("error", { reason: "full" })
    assert.equal(channel.state, "errored")
    const from = world.clock.now
    const before = conn.sent.length
    while (conn.sent.length === before) world.clock.advance(100)
    waits.push(world.clock.now - from)
  }
  assert.deepEqual(waits, [1000, 2000, 5000, 10_000, 10_000])

  conn.replies("ok")
  channel.trigger("phx_error", {})
  world.clock.advance(1000)
  assert.equal(channel.state, "joining") // the waits have begun anew
})

test("the callbacks of a join are called at every rejoin", () => {
  const { conn, channel } = fresh()
  const ok = noted()
  const error = noted()
  channel.join().receive("ok", ok).receive("error", error)
  conn.replies("error", { n: 1 })
  world.clock.advance(1000)
  conn.replies("ok", { n: 2 })
  channel.trigger("phx_error", {})
  world.clock.advance(1000)
  conn.replies("ok", { n: 3 })

  assert.deepEqual(error.calls, [[{ n: 1 }]])
  assert.deepEqual(ok.calls, [[{ n: 2 }], [{ n: 3 }]])
})

test("each join has a new ref, and what is for an earlier one is dropped", () => {
  const logger = noted()
  const { conn, channel } = fresh({ logger })
  channel.join()
  const first = conn.message
  conn.replies()
  const seen = noted()
  channel.on("shout", seen)
  channel.trigger("phx_error", {})
  world.clock.advance(1000)
  const [joinRef] = conn.message
  assert.notEqual(joinRef, first[0])
  conn.receives(first[0], null, "room:1", "shout", { n: 1 })
  conn.receives(first[0], first[0], "room:1", "phx_close")
  conn.receives(joinRef, null, "room:1", "shout", { n: 2 })
  conn.receives(null, null, "room:1", "shout", { n: 3 })

  assert.deepEqual(
    seen.calls.map(([payload]) => payload.n),
    [2, 3],
  )
  assert.equal(channel.state, "joining")
  assert.equal(
    logger.calls.filter(([, message]) => message === "dropping outdated message").length,
    2,
  )
})

test("membership is of the topic, and of the join if one is named", () => {
  const { channel } = fresh()
  channel.join()

  assert.equal(channel.isMember("room:1", "e", {}, channel.joinRef()), true)
  assert.equal(channel.isMember("room:1", "e", {}, null), true)
  assert.equal(channel.isMember("room:1", "e", {}, ""), true)
  assert.equal(channel.isMember("room:1", "e", {}, "0"), false)
  assert.equal(channel.isMember("room:2", "e", {}, channel.joinRef()), false)
})

test("a join that is not answered is left, and tried again", () => {
  const { conn, channel } = fresh()
  const timeout = noted()
  channel.join(2_000).receive("timeout", timeout)
  const [joinRef] = conn.message
  world.clock.advance(2_000)
  assert.deepEqual(conn.message.slice(0, 4), [joinRef, "4", "room:1", "phx_leave"])
  assert.equal(channel.state, "errored")
  assert.equal(timeout.calls.length, 1)
  world.clock.advance(1_000)
  assert.equal(conn.message[3], "phx_join")
  conn.replies("ok", {}, [joinRef, joinRef, "room:1"])
  assert.equal(channel.state, "joining") // a late answer is none to the new join
})

test("a join that timed out offline is sent with its leave at the open, and joined anew", () => {
  const socket = new Socket("/socket")
  const channel = socket.channel("room:1")
  channel.join(1_000)
  world.clock.advance(1_000)
  assert.equal(channel.state, "errored")
  opened(socket)

  assert.deepEqual(sent(), [
    ["3", "3", "phx_join"],
    ["3", "4", "phx_leave"],
    ["5", "5", "phx_join"],
  ])
  assert.equal(channel.state, "joining")
})

test("a rejoin waits for the socket", () => {
  const { conn, channel, socket } = fresh()
  channel.join()
  conn.replies("error")
  conn.readyState = 2
  world.clock.advance(20_000)

  assert.equal(conn.sent.length, 1)
  assert.equal(socket.sendBuffer.length, 0)
})

test("an error of the socket ends the wait for a rejoin", () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies("error")
  conn.onerror({})
  world.clock.advance(20_000)

  assert.equal(conn.sent.filter((data) => data.includes("phx_join")).length, 1)
})

test("an error of the channel is told, and it joins again; pushes wait", () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const reasons = noted()
  channel.onError(reasons)
  conn.receives(channel.joinRef(), channel.joinRef(), "room:1", "phx_error", {
    reason: "channel_crash",
  })
  assert.deepEqual(reasons.calls, [[{ reason: "channel_crash" }]])
  assert.equal(channel.state, "errored")
  channel.push("shout", { n: 1 })
  assert.equal(channel.pushBuffer.length, 1)
  world.clock.advance(1_000)
  conn.replies()

  assert.deepEqual(conn.message.slice(3), ["shout", { n: 1 }])
  assert.deepEqual(channel.pushBuffer, [])
})

test("an error while joining makes a late answer count for nothing", () => {
  const { conn, channel } = fresh()
  channel.join()
  const join = conn.message
  channel.trigger("phx_error", {})
  conn.replies("ok", {}, join)

  assert.equal(channel.state, "errored")
  assert.equal(channel.joinRef(), null)
})

test("a close ends the channel for good", () => {
  const { conn, channel, socket } = fresh()
  channel.join()
  conn.replies()
  const closed = noted()
  channel.onClose(closed)
  conn.receives(channel.joinRef(), channel.joinRef(), "room:1", "phx_close")
  world.clock.advance(60_000 - 30_001)

  assert.equal(channel.state, "closed")
  assert.equal(closed.calls.length, 1)
  assert.deepEqual(socket.channels, [])
  assert.equal(conn.sent.length, 1)
})

test("leaving closes at once, before any answer", () => {
  const { conn, channel, socket } = fresh()
  channel.join()
  conn.replies()
  const closed = noted()
  const left = noted()
  channel.onClose(closed)
  channel.leave().receive("ok", left)

  assert.equal(channel.state, "closed")
  assert.deepEqual(closed.calls[0][0], "leave")
  assert.equal(left.calls.length, 1)
  assert.deepEqual(socket.channels, [])
  assert.deepEqual(sent().at(-1), ["3", "4", "phx_leave"])
  assert.deepEqual(socket.stateChangeCallbacks.open, [])
})

test("leaving while joining ends the join, and nothing joins again", () => {
  const { conn, channel } = fresh()
  channel.join()
  channel.leave()
  world.clock.advance(29_000)

  assert.deepEqual(
    sent().map(([, , event]) => event),
    ["phx_join", "phx_leave"],
  )
  assert.equal(world.clock.timers.size, 1) // of the socket's heartbeat
  assert.equal(conn.closedWith, null)
})

test("a channel that is leaving does not join again", () => {
  const { channel } = fresh()
  channel.state = "leaving"
  channel.rejoin()

  assert.equal(channel.state, "leaving")
})

test("a push before the join is a mistake", () => {
  const { channel } = fresh()

  assert.throws(
    () => channel.push("shout"),
    /^Error: tried to push 'shout' to 'room:1' before joining/,
  )
})

test("a push is sent at once to who is joined, with the ref of the join", () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const ok = noted()
  channel.push("shout", { n: 1 }).receive("ok", ok)
  assert.deepEqual(conn.message, ["3", "4", "room:1", "shout", { n: 1 }])
  conn.replies("ok", { done: true })
  conn.replies("ok", { done: true })

  assert.deepEqual(ok.calls, [[{ done: true }]])
  channel.push("bare")
  assert.deepEqual(conn.message.slice(3), ["bare", {}])
})

test("any status can be received, in the order of the callbacks", () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const seen = []
  channel
    .push("shout")
    .receive("moved", () => seen.push(1))
    .receive("ok", () => seen.push("no"))
    .receive("moved", ({ to }) => seen.push(to))
  conn.replies("moved", { to: 2 })

  assert.deepEqual(seen, [1, 2])
})

test("pushes wait for the join, and go out in order with new refs", () => {
  const { conn, channel } = fresh()
  channel.join()
  const one = channel.push("one")
  const two = channel.push("two")
  assert.deepEqual([one.ref, two.ref], ["4", "5"])
  assert.deepEqual(channel.pushBuffer, [one, two])
  conn.replies()

  assert.deepEqual(sent().slice(1), [
    ["3", "6", "one"],
    ["3", "7", "two"],
  ])
  assert.equal(
    channel.bindings.some(({ event }) => ["chan_reply_4", "chan_reply_5"].includes(event)),
    false,
  )
})

test("a waiting push that has timed out is not sent, and one that is sent waits anew", () => {
  const { conn, channel } = fresh()
  channel.join()
  const timeout = noted()
  channel.push("early", {}, 1_000).receive("timeout", timeout)
  channel.push("late", {}, 3_000).receive("timeout", () => timeout("late"))
  world.clock.advance(2_000)
  assert.deepEqual(timeout.calls, [[{}]])
  conn.replies("ok", {}, conn.message)
  assert.deepEqual(
    sent()
      .slice(1)
      .map(([, , event]) => event),
    ["late"],
  )
  world.clock.advance(2_999)
  assert.equal(timeout.calls.length, 1)
  world.clock.advance(1)

  assert.deepEqual(timeout.calls, [[{}], ["late"]])
})

test("waiting pushes that have timed out do not pile up", () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.closes(1000)
  for (let n = 0; n < 1_000; n++) {
    channel.push("moved", { n })
    world.clock.advance(1_000)
  }

  assert.ok(channel.pushBuffer.length < 200, `${channel.pushBuffer.length} wait`)
  assert.deepEqual(channel.pushBuffer.at(-1).payload(), { n: 999 })
})

test("a push that is not answered times out, and a late answer is none", () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const calls = []
  channel
    .push("shout")
    .receive("timeout", () => calls.push("timeout"))
    .receive("ok", () => calls.push("ok"))
  world.clock.advance(9_999)
  assert.deepEqual(calls, [])
  world.clock.advance(1)
  conn.replies()

  assert.deepEqual(calls, ["timeout"])
})

test("an answered push does not time out", () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const timeout = noted()
  channel.push("shout").receive("timeout", timeout)
  conn.replies()
  world.clock.advance(20_000)

  assert.equal(timeout.calls.length, 0)
})

test("a channel can push when it is joined and its socket connected", () => {
  const { conn, channel } = fresh()
  assert.equal(channel.canPush(), false)
  channel.join()
  conn.replies()
  assert.equal(channel.canPush(), true)
  conn.readyState = 0
  assert.equal(channel.canPush(), false)
})

test("bindings have numbers from 0, and are ended one by one or all of an event", () => {
  const { channel } = fresh()
  channel.bindingRef = 0
  const calls = []
  const refs = [1, 2, 3].map((n) => channel.on("shout", () => calls.push(n)))
  const other = channel.on("other", () => calls.push("other"))
  assert.deepEqual([...refs, other], [0, 1, 2, 3])
  channel.off("shout", refs[0])
  channel.trigger("shout", {})
  channel.off("shout")
  channel.trigger("shout", {})
  channel.trigger("other", {})

  assert.deepEqual(calls, [2, 3, "other"])
})

test("a callback that is ended while an event is told is still told of it", () => {
  const { channel } = fresh()
  const calls = []
  channel.on("shout", () => {
    calls.push(1)
    channel.off("shout")
  })
  channel.on("shout", () => calls.push(2))
  channel.trigger("shout", {})
  channel.trigger("shout", {})

  assert.deepEqual(calls, [1, 2])
})

test("callbacks get the payload, the ref and the join", () => {
  const { channel } = fresh()
  channel.join()
  const seen = noted()
  channel.on("shout", seen)
  channel.trigger("shout", { n: 1 }, "8", "9")
  channel.trigger("shout", { n: 1 })

  assert.deepEqual(seen.calls, [
    [{ n: 1 }, "8", "9"],
    [{ n: 1 }, undefined, "3"],
  ])
})

test("onMessage sees and changes everything first, and has to return it", () => {
  const { channel } = fresh()
  const seen = noted()
  channel.on("shout", seen)
  channel.onMessage = (event, payload, ref, joinRef) => ({ ...payload, event, ref, joinRef })
  channel.trigger("shout", { n: 1 }, "8", "9")
  assert.deepEqual(seen.calls[0][0], { n: 1, event: "shout", ref: "8", joinRef: "9" })
  channel.onMessage = () => undefined

  assert.throws(
    () => channel.trigger("shout", { n: 1 }),
    /channel onMessage callbacks must return the payload, modified or unmodified/,
  )
  channel.trigger("shout", null)
})

// Promises.

test("a join can be awaited", async () => {
  const { conn, channel } = fresh()
  const join = channel.join()
  conn.replies("ok", { seat: 1 })

  assert.deepEqual(await join, { seat: 1 })
})

test("a push that fails is an error with what the server said", async () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const push = channel.push("shout").then(
    () => assert.fail(),
    (error) => error,
  )
  conn.replies("error", { reason: "say something" })
  const error = await push

  assert.ok(error instanceof PushError)
  assert.equal(error.message, "shout to room:1: say something")
  assert.deepEqual([error.status, error.response], ["error", { reason: "say something" }])
})

test("a push that times out, or whose channel closes, is an error too", async () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const fails = (push) =>
    push.then(
      () => assert.fail(),
      (error) => error.status,
    )
  const late = fails(channel.push("late"))
  world.clock.advance(10_000)
  const open = fails(channel.push("open"))
  channel.leave()

  assert.equal(await late, "timeout")
  assert.equal(await open, "closed")
  assert.deepEqual(await channel.leave(), {})
})

test("an awaited join that fails on the way is settled by the join that is answered", async () => {
  const { conn, channel } = fresh()
  const join = channel.join().finally(() => {})
  conn.closes()
  world.clock.advance(10)
  FakeWebSocket.last.opens()
  FakeWebSocket.last.replies("ok", { n: 2 })

  assert.deepEqual(await join, { n: 2 })
})

test("who awaits nothing has no unhandled rejection", async () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies("error")
  await settled()
  await channel.joinPush.catch((error) => assert.equal(error.status, "error"))
})

// Events and streams.

test("events reach listeners with the payload as detail, until they are removed", () => {
  const { conn, channel, socket } = fresh()
  channel.join()
  conn.replies()
  const seen = noted()
  const listener = ({ detail }) => seen(detail)
  channel.addEventListener("shout", listener)
  socket.addEventListener("close", ({ detail }) => seen(detail.code))
  conn.receives(null, null, "room:1", "shout", { n: 1 })
  channel.removeEventListener("shout", listener)
  conn.receives(null, null, "room:1", "shout", { n: 2 })
  conn.closes(1001)

  assert.deepEqual(seen.calls, [[{ n: 1 }], [1001]])
})

test("a for await reads every message, until the channel closes", async () => {
  const { conn, channel } = fresh()
  channel.join()
  conn.replies()
  const stream = messages(channel, "shout")
  conn.receives(null, null, "room:1", "shout", { n: 1 })
  conn.receives(null, null, "room:1", "shout", { n: 2 })
  const read = []
  const reading = (async () => {
    for await (const { n } of stream) read.push(n)
  })()
  await settled()
  conn.receives(null, null, "room:1", "shout", { n: 3 })
  channel.leave()
  await reading

  assert.deepEqual(read, [1, 2, 3])
  assert.equal((await messages(channel, "shout").next()).done, true)
})

test("who reads slowly gets the newest, and a count of what was dropped", async () => {
  const { conn, channel } = fresh()
  joined(channel.socket, "room:2")
  channel.join()
  conn.replies()
  const stream = messages(channel, "shout", { limit: 2 })
  for (const n of [1, 2, 3, 4]) conn.receives(null, null, "room:1", "shout", { n })

  assert.equal(stream.dropped, 2)
  assert.deepEqual((await stream.next()).value, { n: 3 })
})

test("who breaks out of a for await is bound to nothing any more", async () => {
  const { channel } = fresh()
  channel.join()
  const before = channel.bindings.length
  const stream = messages(channel, "shout")
  channel.trigger("shout", {})
  for await (const _ of stream) break

  assert.equal(channel.bindings.length, before)
})
