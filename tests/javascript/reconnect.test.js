import assert from "node:assert/strict"
import { test } from "node:test"
import { LongPoll, Socket, Timer } from "./client.js"
import { FakeWebSocket, fakeWorld, joined, noted, opened, settled } from "./fakes.js"

const world = fakeWorld()
const count = () => FakeWebSocket.all.length

/** Let the present connection end, and return after how many ms the next one is made. */
function delay(code) {
  const before = count()
  const from = world.clock.now
  if (FakeWebSocket.last.readyState === 0) FakeWebSocket.last.fails()
  else FakeWebSocket.last.closes(code)
  while (count() === before && world.clock.now < from + 60_000) world.clock.advance(10)
  return world.clock.now - from
}

test("a timer waits longer from try to try, until it is reset", () => {
  const tries = []
  const fired = []
  const timer = new Timer(
    () => fired.push(world.clock.now),
    (count) => (tries.push(count), count * 10),
  )
  timer.scheduleTimeout()
  timer.scheduleTimeout() // in place of the first
  world.clock.advance(10)
  timer.scheduleTimeout()
  world.clock.advance(20)
  timer.reset()
  timer.scheduleTimeout()
  timer.reset()
  world.clock.advance(100)

  assert.deepEqual(fired, [10, 30])
  assert.deepEqual(tries, [1, 1, 2, 1])
})

test("the waits before a reconnect grow to 5 s, and begin anew after an open", () => {
  const socket = new Socket("/socket")
  opened(socket)
  const waits = Array.from({ length: 11 }, () => delay())
  assert.deepEqual(waits, [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000, 5000])

  FakeWebSocket.last.opens()
  assert.equal(delay(), 10)
})

test("the waits before a rejoin grow to 10 s", () => {
  const socket = new Socket("/socket")

  assert.deepEqual([1, 2, 3, 4, 5].map(socket.rejoinAfterMs), [1000, 2000, 5000, 10_000, 10_000])
  assert.equal(socket.reconnectAfterMs(10), 5000)
})

test("own waits are asked for at every try", () => {
  const reconnects = noted(70)
  const socket = new Socket("/socket", { reconnectAfterMs: reconnects, rejoinAfterMs: () => 5 })
  opened(socket)

  assert.deepEqual([delay(), delay()], [70, 70])
  assert.deepEqual(reconnects.calls, [[1], [2]])
  assert.equal(socket.rejoinAfterMs(1), 5)
})

test("jitter takes a random part off the waits, and off own ones nothing", () => {
  const random = Math.random
  Math.random = () => 0.5
  const socket = new Socket("/socket", { jitter: 0.4 })
  const own = new Socket("/socket", { jitter: 0.4, reconnectAfterMs: () => 100 })

  assert.equal(socket.reconnectAfterMs(9), 1600)
  assert.equal(socket.rejoinAfterMs(1), 800)
  assert.equal(own.reconnectAfterMs(1), 100)
  Math.random = random
})

test("a close with 1000, and one that was asked for, is not followed by a reconnect", () => {
  const socket = new Socket("/socket")
  opened(socket).closes(1000)
  world.clock.advance(60_000)
  assert.equal(count(), 1)

  const other = new Socket("/socket")
  opened(other)
  other.disconnect(null, 4000)
  world.clock.advance(60_000)
  assert.equal(count(), 2)
})

test("other closes are followed by a reconnect, whatever their code", () => {
  for (const code of [1001, 1002, 1006, 1008, 1011, 1012, 1013, 4001]) {
    opened(new Socket("/socket"))
    assert.equal(delay(code), 10, code)
  }
})

test("a disconnect ends a reconnect that was waiting, or on its way", () => {
  const socket = new Socket("/socket")
  opened(socket).closes()
  socket.disconnect()
  world.clock.advance(60_000)
  assert.equal(count(), 1)

  const conn = opened(socket)
  conn.confirmsClose = false
  socket.reconnect() // waits for the close
  socket.disconnect()
  world.clock.advance(60_000)
  assert.equal(count(), 2)
})

test("a disconnect in a callback of the close counts", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  joined(socket).onError(() => socket.disconnect())
  conn.closes()
  world.clock.advance(60_000)

  assert.equal(count(), 1)
})

test("a socket that is reconnecting is not made to by connect", () => {
  const socket = new Socket("/socket")
  opened(socket).closes()
  socket.connect()

  assert.equal(count(), 1)
})

test("heartbeats go out every 30 s, each after the answer to the one before", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  world.clock.advance(29_999)
  assert.equal(conn.sent.length, 0)
  world.clock.advance(1)
  assert.deepEqual(conn.message, [null, socket.pendingHeartbeatRef, "phoenix", "heartbeat", {}])
  world.clock.advance(1_000)
  conn.replies()
  assert.equal(socket.pendingHeartbeatRef, null)
  world.clock.advance(29_999)
  assert.equal(conn.sent.length, 1)
  world.clock.advance(1)
  assert.equal(conn.sent.length, 2)
})

test("a reply to something else is no reply to a heartbeat", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  world.clock.advance(30_000)
  conn.receives(null, "999", "phoenix", "phx_reply", { status: "ok", response: {} })
  world.clock.advance(30_000)

  assert.deepEqual(conn.closedWith, [1000, "heartbeat timeout"])
})

test("a heartbeat without an answer errs the channels, closes and reconnects", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const reasons = noted()
  joined(socket).onError(reasons)
  world.clock.advance(60_000)
  assert.deepEqual(reasons.calls, [[{ source: "transport", reason: "heartbeat_timeout" }]])
  assert.deepEqual(conn.closedWith, [1000, "heartbeat timeout"])
  assert.equal(socket.pendingHeartbeatRef, null)
  world.clock.advance(200)

  assert.equal(count(), 2)
})

test("a heartbeat without an answer reconnects also if the connection does not even close", () => {
  const socket = new Socket("/socket")
  opened(socket).confirmsClose = false
  world.clock.advance(60_000 + 1_510)

  assert.equal(count(), 2)
})

test("an application that disconnects on a heartbeat timeout stays disconnected", () => {
  const socket = new Socket("/socket")
  opened(socket)
  joined(socket).onError(() => socket.disconnect())
  world.clock.advance(120_000)

  assert.equal(count(), 1)
})

test("a disconnect while a heartbeat timeout still closes the connection counts", () => {
  const socket = new Socket("/socket")
  opened(socket).confirmsClose = false
  world.clock.advance(60_000)
  socket.disconnect()
  world.clock.advance(60_000)

  assert.equal(count(), 1)
})

test("a disconnect while a reconnect still closes the connection counts", () => {
  const socket = new Socket("/socket")
  socket.connect()
  FakeWebSocket.last.confirmsClose = false
  world.page.shows()
  socket.disconnect()
  world.clock.advance(60_000)

  assert.equal(count(), 1)
})

test("no heartbeat follows while one waits and nothing is connected", () => {
  const socket = new Socket("/socket")
  socket.sendHeartbeat()
  socket.sendHeartbeat()

  assert.equal(socket.sendBuffer.length, 1)
})

test("a close, a disconnect and a dropped connection end the heartbeats", () => {
  const socket = new Socket("/socket")
  opened(socket).closes(1000)
  const other = new Socket("/socket")
  opened(other).confirmsClose = false
  other.disconnect()
  const replaced = new Socket("/socket")
  opened(replaced)
  replaced.replaceTransport(LongPoll)
  world.clock.advance(1_500)

  assert.equal(world.clock.timers.size, 0)
})

test("a transport that skips heartbeats gets none", () => {
  class Skipping extends FakeWebSocket {
    skipHeartbeat = true
  }
  opened(new Socket("/socket", { transport: Skipping }))

  assert.equal(world.clock.timers.size, 0)
})

test("errored channels join again when the socket opens, with their params as they are then", () => {
  let last = 1
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket, "room:1", () => ({ last }))
  const left = joined(socket, "room:2")
  left.leave()
  last = 2
  conn.closes()
  world.clock.advance(10)
  FakeWebSocket.last.opens()

  assert.deepEqual(FakeWebSocket.last.messages, [
    [channel.joinRef(), channel.joinRef(), "room:1", "phx_join", { last: 2 }],
  ])
})

// The page.

test("a page that goes disconnects, and connects again when it is shown from the cache", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  world.page.tell("pagehide")
  assert.deepEqual(conn.closedWith, [])
  world.clock.advance(60_000)
  assert.equal(count(), 1)
  world.page.tell("pageshow")
  FakeWebSocket.last.opens()

  assert.equal(count(), 2)
  assert.equal(channel.state, "joining")
  world.page.tell("pageshow")
  assert.equal(count(), 2)
})

test("a page that is shown does not connect what was never connected, or was disconnected", () => {
  const socket = new Socket("/socket")
  world.page.tell("pagehide")
  world.page.tell("pageshow")
  opened(socket)
  world.page.tell("pagehide")
  socket.disconnect()
  world.page.tell("pageshow")
  assert.equal(count(), 1)

  world.clock.advance(2_000)
  opened(socket)
  socket.disconnect()
  world.page.tell("pagehide") // during the disconnect of the application
  world.page.tell("pageshow")
  assert.equal(count(), 2)
})

test("a hidden page does not reconnect, and does so at once when it is seen", () => {
  const logger = noted()
  const socket = new Socket("/socket", { logger })
  opened(socket)
  world.page.hides()
  assert.equal(socket.pageHidden, true)
  FakeWebSocket.last.closes()
  world.clock.advance(60_000)
  assert.equal(count(), 1)
  assert.ok(logger.calls.flat().includes("Not reconnecting as page is hidden!"))
  assert.equal(socket.conn, null)
  world.page.shows()

  assert.equal(socket.pageHidden, false)
  assert.equal(count(), 2)
})

test("a page that is seen connects nothing that is connected, or that nobody wants connected", () => {
  const socket = new Socket("/socket")
  world.page.shows()
  assert.equal(count(), 0)
  opened(socket)
  world.page.hides()
  world.page.shows()
  assert.equal(count(), 1)
  socket.disconnect()
  world.clock.advance(2_000)
  world.page.shows()

  assert.equal(count(), 1)
})

test("a page that is seen while a reconnect waits makes one connection", () => {
  const socket = new Socket("/socket")
  opened(socket).closes()
  world.page.hides()
  world.page.shows()
  FakeWebSocket.last.opens()
  world.clock.advance(20_000)

  assert.equal(count(), 2)
  assert.equal(socket.isConnected(), true)
})

test("the network that is back reconnects at once", () => {
  const socket = new Socket("/socket")
  opened(socket)
  for (let tries = 0; tries < 9; tries++) delay()
  FakeWebSocket.last.fails() // 5 s to go
  const before = count()
  world.page.tell("online")

  assert.equal(count(), before + 1)
})

test("a page that has slept asks the server at once, and gives it 5 s", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  world.clock.sleep(3_600_000)
  world.page.tell("online")
  assert.deepEqual(
    conn.messages.map(([, , , event]) => event),
    ["heartbeat"],
  )
  world.page.shows()
  assert.equal(conn.sent.length, 1)
  world.clock.advance(5_000)

  assert.deepEqual(conn.closedWith, [1000, "heartbeat timeout"])
})

test("a page that was awake asks nothing when it is seen", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  world.clock.advance(20_000)
  world.page.shows()

  assert.equal(conn.sent.length, 0)
})

test("nothing of the page is needed", () => {
  delete globalThis.window
  opened(new Socket("ws://example.com/socket"))

  assert.equal(count(), 1)
})

// Logged out.

test("a close that means logged out is an event, and nothing reconnects until connect", () => {
  const socket = new Socket("/socket")
  const events = noted()
  socket.addEventListener("logout", (event) => events(event.detail.code))
  opened(socket).closes(4401)
  world.clock.advance(60_000)
  assert.equal(count(), 1)
  assert.deepEqual(events.calls, [[4401]])
  assert.equal(socket.loggedOut, true)
  world.page.shows()
  assert.equal(count(), 1)
  socket.connect()

  assert.equal(count(), 2)
  assert.equal(socket.loggedOut, false)
})

test("the application says what means logged out", () => {
  const socket = new Socket("/socket", { isLogout: ({ code }) => code === 1008 })
  opened(socket).closes(1008)
  world.clock.advance(60_000)

  assert.equal(socket.loggedOut, true)
  assert.equal(count(), 1)
})

test("it may ask its server, while the socket tries on", async () => {
  let answer
  const socket = new Socket("/socket", {
    isLogout: () => new Promise((resolve) => (answer = resolve)),
  })
  socket.connect()
  FakeWebSocket.last.fails()
  world.clock.advance(10)
  assert.equal(count(), 2)
  answer(true)
  await settled()
  world.clock.advance(60_000)

  assert.equal(socket.loggedOut, true)
  assert.equal(count(), 2)
})

test("an answer that comes when the socket is connected again logs nobody out", async () => {
  let answer
  const socket = new Socket("/socket", {
    isLogout: () => new Promise((resolve) => (answer = resolve)),
  })
  socket.connect()
  FakeWebSocket.last.fails()
  world.clock.advance(10)
  FakeWebSocket.last.opens()
  answer(true)
  await settled()

  assert.equal(socket.loggedOut, false)
})

test("a token may be fetched, and the connection waits for it", async () => {
  const socket = new Socket("/socket", { authToken: async () => "1234" })
  socket.connect()
  assert.equal(count(), 0)
  await settled()

  assert.equal(FakeWebSocket.last.protocols[1], "base64url.bearer.phx.MTIzNA")
})

test("a token that comes after a disconnect connects nothing", async () => {
  const socket = new Socket("/socket", { authToken: async () => "1234" })
  socket.connect()
  socket.disconnect()
  await settled()

  assert.equal(count(), 0)
})

test("a token that can't be fetched is asked for again later", async () => {
  const answers = [Promise.reject(new Error("offline")), "1234"]
  const socket = new Socket("/socket", { authToken: () => answers.shift() })
  socket.connect()
  await settled()
  assert.equal(count(), 0)
  world.clock.advance(10)

  assert.equal(count(), 1)
})

test("who has no token is logged out", () => {
  const socket = new Socket("/socket", { authToken: () => null })
  const events = noted()
  socket.addEventListener("logout", events)
  socket.connect()

  assert.equal(count(), 0)
  assert.equal(events.calls.length, 1)
})
