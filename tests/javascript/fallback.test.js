import assert from "node:assert/strict"
import { test } from "node:test"
import { LongPoll, Socket } from "./client.js"
import { FakeRequest, FakeStorage, FakeWebSocket, fakeWorld, noted, opened } from "./fakes.js"

const world = fakeWorld()
const MEMORY = "phx:fallback:LongPoll"

function fresh(options = {}) {
  const sessionStorage = new FakeStorage()
  const logger = noted()
  const socket = new Socket("/socket", {
    longPollFallbackMs: 2_500,
    sessionStorage,
    logger,
    ...options,
  })
  const said = () => logger.calls.map(([, message]) => message)
  return { socket, sessionStorage, said }
}

/** Let the long-poll that the socket has fallen back to open. */
function pollOpens() {
  world.clock.advance(0)
  FakeRequest.last.answers({ status: 410, token: "t1" })
}

test("without the option nothing falls back", () => {
  const socket = new Socket("/socket")
  socket.connect()
  FakeWebSocket.last.fails()
  world.clock.advance(10)

  assert.equal(socket.transport, FakeWebSocket)
})

test("who remembers falls back at once", () => {
  const { socket, said } = fresh({ sessionStorage: new FakeStorage({ [MEMORY]: "true" }) })
  socket.connect()

  assert.equal(FakeWebSocket.all.length, 0)
  assert.equal(socket.transport, LongPoll)
  assert.deepEqual(said(), ["falling back to LongPoll..."])
})

test("an error before the open falls back, and it is remembered when the long-poll opens", () => {
  const { socket, sessionStorage, said } = fresh()
  socket.connect()
  const channel = socket.channel("room:1")
  channel.join()
  FakeWebSocket.last.onerror({ type: "error" })
  assert.equal(socket.transport, LongPoll)
  assert.ok(socket.conn instanceof LongPoll)
  assert.equal(channel.state, "joining")
  assert.equal(sessionStorage.getItem(MEMORY), null)
  pollOpens()

  assert.equal(sessionStorage.getItem(MEMORY), "true")
  assert.ok(said().includes("established LongPoll fallback"))
  world.clock.advance(0)
  assert.match(FakeRequest.last.body, /phx_join/)
})

test("no open in time falls back", () => {
  const { socket } = fresh()
  socket.connect()
  world.clock.advance(2_499)
  assert.equal(socket.transport, FakeWebSocket)
  world.clock.advance(1)

  assert.equal(socket.transport, LongPoll)
  assert.deepEqual(FakeWebSocket.last.closedWith, [])
})

test("an open without an answer in time falls back, with a time of its own", () => {
  const { socket } = fresh()
  socket.connect()
  world.clock.advance(2_000)
  FakeWebSocket.last.opens()
  assert.deepEqual(FakeWebSocket.last.message.slice(2), ["phoenix", "heartbeat", {}])
  world.clock.advance(2_499)
  assert.equal(socket.transport, FakeWebSocket)
  world.clock.advance(1)

  assert.equal(socket.transport, LongPoll)
})

test("an answer in time makes the WebSocket the right one for good", () => {
  const { socket, sessionStorage, said } = fresh()
  opened(socket)
  FakeWebSocket.last.replies()
  world.clock.advance(20_000)
  assert.equal(socket.transport, FakeWebSocket)
  assert.equal(socket.primaryPassedHealthCheck, true)
  assert.ok(said().includes("connected to primary after"))

  FakeWebSocket.last.closes()
  world.clock.advance(10)
  FakeWebSocket.last.fails()
  pollOpens()
  assert.equal(socket.transport, LongPoll)
  assert.equal(sessionStorage.getItem(MEMORY), null)
})

test("an error after the open does not fall back", () => {
  const { socket } = fresh()
  opened(socket)
  FakeWebSocket.last.onerror({})

  assert.equal(socket.transport, FakeWebSocket)
})

test("a disconnect ends the fallback, also by the error that its own close makes", () => {
  const { socket } = fresh()
  socket.connect()
  socket.disconnect()
  FakeWebSocket.last.onerror({})
  world.clock.advance(60_000)

  assert.equal(socket.transport, FakeWebSocket)
  assert.equal(FakeRequest.all.length, 0)
})

test("attempts leave no callbacks behind", () => {
  const { socket } = fresh()
  opened(socket)
  FakeWebSocket.last.replies()
  for (let tries = 0; tries < 3; tries++) {
    FakeWebSocket.last.closes()
    world.clock.advance(10)
    FakeWebSocket.last.opens()
    FakeWebSocket.last.replies()
  }

  assert.equal(socket.stateChangeCallbacks.error.length, 1)
  assert.equal(socket.stateChangeCallbacks.open.length, 1)
})

test("a channel that was joined before the fallback joins again after it", () => {
  const { socket } = fresh()
  opened(socket)
  const channel = socket.channel("room:1")
  channel.join()
  FakeWebSocket.last.replies()
  world.clock.advance(2_500) // the ping got no answer
  assert.equal(channel.state, "errored")
  pollOpens()

  assert.equal(channel.state, "joining")
})

test("the storage of the page is the memory by default, where the page may use one", () => {
  globalThis.sessionStorage = new FakeStorage({ [MEMORY]: "true" })
  const socket = new Socket("/socket", { longPollFallbackMs: 1_000 })
  socket.connect()
  assert.equal(socket.transport, LongPoll)

  Object.defineProperty(globalThis, "sessionStorage", {
    configurable: true,
    get() {
      throw new Error("forbidden")
    },
  })
  assert.equal(new Socket("/socket").sessionStore, undefined)
})

test("the name of the long-poll does not depend on a minifier", () => {
  const { socket } = fresh()

  assert.equal(socket.transportName(LongPoll), "LongPoll")
  assert.equal(socket.transportName(FakeWebSocket), "FakeWebSocket")
})
