import assert from "node:assert/strict"
import { test } from "node:test"
import { LongPoll, Socket } from "./client.js"
import { FakeWebSocket, fakeWorld, joined, noted, opened } from "./fakes.js"

const world = fakeWorld()

test("a new socket is not connected, and has the defaults", () => {
  const socket = new Socket("/socket")

  assert.equal(socket.endPoint, "/socket/websocket")
  assert.equal(socket.vsn, "2.0.0")
  assert.equal(socket.timeout, 10_000)
  assert.equal(socket.heartbeatIntervalMs, 30_000)
  assert.equal(socket.longpollerTimeout, 20_000)
  assert.equal(socket.binaryType, "arraybuffer")
  assert.equal(socket.longPollFallbackMs, undefined)
  assert.equal(socket.logger, null)
  assert.equal(socket.conn, undefined)
  assert.equal(socket.ref, 0)
  assert.equal(socket.connectClock, 1)
  assert.equal(socket.establishedConnections, 0)
  assert.equal(socket.closeWasClean, true)
  assert.equal(socket.disconnecting, false)
  assert.equal(socket.pageHidden, false)
  assert.equal(socket.primaryPassedHealthCheck, false)
  assert.deepEqual(socket.params(), {})
  assert.deepEqual(socket.channels, [])
  assert.deepEqual(socket.sendBuffer, [])
  assert.deepEqual(socket.stateChangeCallbacks, { open: [], close: [], error: [], message: [] })
  assert.equal(socket.connectionState(), "closed")
  assert.equal(socket.isConnected(), false)
  assert.equal(socket.getLongPollTransport(), LongPoll)
})

test("options replace the defaults, and zero does not", () => {
  const socket = new Socket("/socket", {
    timeout: 40_000,
    heartbeatIntervalMs: 0,
    longpollerTimeout: 50_000,
    vsn: "1.0.0",
  })

  assert.equal(socket.timeout, 40_000)
  assert.equal(socket.heartbeatIntervalMs, 30_000)
  assert.equal(socket.longpollerTimeout, 50_000)
  assert.equal(socket.vsn, "1.0.0")
})

test("the transport is WebSocket, and long-poll where there is none", () => {
  assert.equal(new Socket("/socket").transport, FakeWebSocket)
  delete globalThis.WebSocket
  assert.equal(new Socket("/socket").transport, LongPoll)
})

test("own encoders are used, except on long-poll", () => {
  const own = { encode: noted(), decode: noted() }
  const socket = new Socket("/socket", own)
  const polling = new Socket("/socket", { ...own, transport: LongPoll })

  assert.equal(socket.encode, own.encode)
  assert.equal(socket.decode, own.decode)
  assert.equal(polling.encode, polling.defaultEncoder)
  assert.equal(polling.decode, polling.defaultDecoder)
})

test("debug prints, and a logger wins over it", () => {
  new Socket("/socket", { debug: true }).log("kind", "message", 1)
  assert.deepEqual(world.printed, [["kind: message", 1]])

  const logger = noted()
  const socket = new Socket("/socket", { debug: true, logger })
  socket.log("kind", "message", 1)
  assert.deepEqual(logger.calls, [["kind", "message", 1]])
  assert.equal(socket.hasLogger(), true)
  assert.equal(new Socket("/socket").hasLogger(), false)
  assert.equal(world.printed.length, 1)
})

test("a path has the page's host, and its protocol decides", () => {
  assert.equal(new Socket("/socket").endPointURL(), "ws://example.com/socket/websocket?vsn=2.0.0")
  globalThis.location.protocol = "https:"
  assert.equal(new Socket("/socket").endPointURL(), "wss://example.com/socket/websocket?vsn=2.0.0")
  assert.equal(new Socket("/socket").protocol(), "wss")
})

test("a host without a protocol gets one, and a whole URL stays", () => {
  assert.equal(new Socket("//other.com/s").endPointURL(), "ws://other.com/s/websocket?vsn=2.0.0")
  assert.equal(
    new Socket("wss://other.com/s").endPointURL(),
    "wss://other.com/s/websocket?vsn=2.0.0",
  )
  assert.equal(
    new Socket("http://other.com/s").endPointURL(),
    "http://other.com/s/websocket?vsn=2.0.0",
  )
})

test("params come before vsn, encoded and nested", () => {
  const params = { token: "a b", user: { id: 1, tags: ["x", "y"] }, none: null, missing: undefined }
  const [, query] = new Socket("/socket", { params }).endPointURL().split("?")

  assert.equal(
    query,
    "token=a%20b&user%5Bid%5D=1&user%5Btags%5D%5B0%5D=x&user%5Btags%5D%5B1%5D=y&&missing=undefined&vsn=2.0.0",
  )
})

test("an endpoint with a question mark is continued", () => {
  const url = new Socket("/s?x=1", { params: { a: 1 } }).endPointURL()

  assert.equal(url, "ws://example.com/s?x=1/websocket&a=1&vsn=2.0.0")
})

test("params as a function are asked at every connection", () => {
  let token = "one"
  const socket = new Socket("/socket", { params: () => ({ token }) })
  assert.match(opened(socket).url, /\?token=one&/)
  token = "two"
  FakeWebSocket.last.closes()
  world.clock.advance(10)

  assert.match(FakeWebSocket.last.url, /\?token=two&/)
})

test("params given to connect replace those of the socket, and a note is printed", () => {
  const socket = new Socket("/socket", { params: { a: 1 } })
  socket.connect({ b: 2 })

  assert.match(FakeWebSocket.last.url, /\?b=2&vsn/)
  assert.match(world.printed[0][0], /deprecated/)
})

test("connecting makes one transport, whose type and timeout are set", () => {
  const socket = new Socket("/socket")
  socket.connect()
  socket.connect()

  assert.equal(FakeWebSocket.all.length, 1)
  assert.equal(socket.conn, FakeWebSocket.last)
  assert.equal(socket.conn.binaryType, "arraybuffer")
  assert.equal(socket.conn.timeout, 20_000)
  assert.equal(socket.conn.protocols, undefined)
  assert.equal(socket.connectClock, 2)
  assert.equal(socket.closeWasClean, false)
})

test("the token goes into a subprotocol, without padding, asked at every connection", () => {
  const tokens = ["1234", "12345"]
  const socket = new Socket("/socket", { authToken: () => tokens.shift() })
  assert.deepEqual(opened(socket).protocols, ["phoenix", "base64url.bearer.phx.MTIzNA"])
  FakeWebSocket.last.closes()
  world.clock.advance(10)

  assert.deepEqual(FakeWebSocket.last.protocols, ["phoenix", "base64url.bearer.phx.MTIzNDU"])
  new Socket("/socket", { authToken: "1234" }).connect()
  assert.equal(FakeWebSocket.last.protocols[1], "base64url.bearer.phx.MTIzNA")
})

test("states are those of the transport, and what is unknown is closed", () => {
  const socket = new Socket("/socket")
  socket.connect()
  const states = [0, 1, 2, 3, 7, undefined].map((state) => {
    socket.conn.readyState = state
    return socket.connectionState()
  })

  assert.deepEqual(states, ["connecting", "open", "closing", "closed", "closed", "closed"])
})

test("opening tells it, after what was waiting was sent in order", () => {
  const socket = new Socket("/socket")
  const seen = []
  socket.onOpen(() => seen.push(FakeWebSocket.last.sent.length))
  socket.push({ topic: "t", event: "one", payload: {}, ref: "8", join_ref: "7" })
  socket.push({ topic: "t", event: "two", payload: {} })
  assert.equal(socket.sendBuffer.length, 2)
  const conn = opened(socket)

  assert.deepEqual(conn.messages, [
    ["7", "8", "t", "one", {}],
    [null, null, "t", "two", {}],
  ])
  assert.deepEqual(socket.sendBuffer, [])
  assert.deepEqual(seen, [2])
  assert.equal(socket.establishedConnections, 1)
})

test("what waits is encoded when it is sent", () => {
  const payload = { n: 1 }
  const socket = new Socket("/socket")
  socket.push({ topic: "t", event: "e", payload })
  payload.n = 2

  assert.deepEqual(opened(socket).message[4], { n: 2 })
})

test("what can't be encoded keeps nothing else from being sent", () => {
  const socket = new Socket("/socket")
  socket.push({ topic: "t", event: "bad", payload: { n: 1n } })
  socket.push({ topic: "t", event: "good", payload: {} })
  const conn = opened(socket)

  assert.deepEqual(
    conn.messages.map((message) => message[3]),
    ["good"],
  )
  assert.throws(() => world.clock.advance(0), TypeError)
  socket.flushSendBuffer()
  assert.equal(conn.sent.length, 1)
})

test("a message goes to the channels of its topic, then to the callbacks", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  const other = joined(socket, "room:2")
  const seen = []
  channel.on("shout", (payload, ref, joinRef) => seen.push(["channel", payload, ref, joinRef]))
  other.on("shout", () => seen.push("other"))
  socket.onMessage((message) => seen.push(message))
  conn.receives(null, null, "room:1", "shout", { body: "hi" })

  assert.deepEqual(seen, [
    ["channel", { body: "hi" }, null, channel.joinRef()],
    { join_ref: null, ref: null, topic: "room:1", event: "shout", payload: { body: "hi" } },
  ])
})

test("callbacks have refs, and are ended by them, whatever their kind", () => {
  const socket = new Socket("/socket")
  const calls = []
  const refs = [
    socket.onOpen(() => calls.push("open")),
    socket.onError(() => calls.push("error")),
    socket.onClose(() => calls.push("close")),
    socket.onMessage(() => calls.push("message")),
  ]
  socket.onOpen(() => calls.push("kept"))
  assert.deepEqual(refs, ["1", "2", "3", "4"])
  socket.off(refs)
  const conn = opened(socket)
  conn.receives(null, null, "t", "e")
  conn.fails()

  assert.deepEqual(calls, ["kept"])
})

test("refs count up, and begin anew where numbers can't be told apart", () => {
  const socket = new Socket("/socket")
  assert.equal(socket.makeRef(), "1")
  assert.equal(socket.makeRef(), "2")
  socket.ref = 2 ** 53
  assert.equal(socket.makeRef(), "0")
  assert.equal(socket.makeRef(), "1")
})

test("a close is told to channels that do not know it, then to callbacks", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  const errored = joined(socket, "room:2")
  errored.trigger("phx_error", { reason: "crash" })
  const seen = []
  channel.onError((reason) => seen.push(reason))
  errored.onError(() => seen.push("twice"))
  socket.onClose((event) => seen.push(event.code))
  conn.closes(1011)

  assert.deepEqual(seen, [{ source: "transport", reason: "connection_closed" }, 1011])
  assert.equal(channel.state, "errored")
  conn.onclose({ code: 1011 })
  assert.equal(seen.length, 2)
})

test("an error tells the callbacks what was tried, and errs the channels", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  const reasons = noted()
  const errors = noted()
  channel.onError(reasons)
  socket.onError(errors)
  const error = {}
  conn.onerror(error)

  assert.deepEqual(errors.calls, [[error, FakeWebSocket, 1]])
  assert.deepEqual(reasons.calls, [[{ source: "transport", reason: "connection_error" }]])
})

test("an error after which a callback replaced the transport errs no channel before the first open", () => {
  const socket = new Socket("/socket")
  socket.connect()
  const channel = socket.channel("room:1")
  channel.join()
  socket.onError(() => socket.replaceTransport(LongPoll))
  FakeWebSocket.last.onerror({})

  assert.equal(channel.state, "joining")
})

test("disconnecting closes with the code, and calls back when it is closed", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const done = noted()
  socket.disconnect(done, 1001, "bye")
  assert.deepEqual(conn.closedWith, [1001, "bye"])
  assert.equal(socket.disconnecting, true)
  assert.equal(done.calls.length, 0)
  world.clock.advance(150)

  assert.equal(done.calls.length, 1)
  assert.equal(socket.conn, null)
  assert.equal(socket.disconnecting, false)
  assert.equal(socket.closeWasClean, true)
  world.clock.advance(100_000)
  assert.equal(FakeWebSocket.all.length, 1)
})

test("disconnecting without a code closes without one, and with one it has a reason", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  socket.disconnect()
  assert.deepEqual(conn.closedWith, [])
  world.clock.advance(150)
  const next = opened(socket)
  socket.disconnect(null, 1000)
  assert.deepEqual(next.closedWith, [1000, ""])
})

test("disconnecting calls back when there is no connection", () => {
  const done = noted()
  new Socket("/socket").disconnect(done)

  assert.equal(done.calls.length, 1)
})

test("a disconnect waits for what is being sent, 1.5 s at most", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  conn.bufferedAmount = 1
  socket.disconnect()
  world.clock.advance(1_499)
  assert.equal(conn.closedWith, null)
  world.clock.advance(1)
  assert.deepEqual(conn.closedWith, [])
})

test("what a closed connection had to send is not waited for", () => {
  const socket = new Socket("/socket")
  opened(socket).bufferedAmount = 1 // it never falls again
  FakeWebSocket.last.closes()
  world.clock.advance(10)

  assert.equal(FakeWebSocket.all.length, 2)
})

test("what is being sent is looked at after 150, 300, 450 and 600 ms", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const looks = []
  Object.defineProperty(conn, "bufferedAmount", { get: () => looks.push(world.clock.now) })
  socket.disconnect()
  world.clock.advance(2_000)

  assert.deepEqual(looks, [0, 150, 450, 900])
})

test("a connection that does not confirm its close is dropped after 1.5 s", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  conn.confirmsClose = false
  const done = noted()
  socket.disconnect(done)
  world.clock.advance(1_499)
  assert.equal(done.calls.length, 0)
  world.clock.advance(1)

  assert.equal(done.calls.length, 1)
  assert.equal(socket.conn, null)
  assert.equal(channel.state, "errored")
  conn.closes() // reaches nobody
})

test("a connect during a disconnect makes a new connection, which the old one does not touch", () => {
  const socket = new Socket("/socket")
  const old = opened(socket)
  const channel = joined(socket)
  old.confirmsClose = false
  const done = noted()
  socket.disconnect(done)
  const conn = opened(socket)
  assert.notEqual(conn, old)
  assert.equal(conn.message[3], "phx_join")
  conn.replies()
  old.closes(1000)
  old.onmessage({ data: JSON.stringify([null, null, "room:1", "phx_error", {}]) })
  old.onerror({})
  world.clock.advance(1_500)

  assert.equal(socket.conn, conn)
  assert.equal(socket.isConnected(), true)
  assert.equal(channel.state, "joined")
  assert.equal(done.calls.length, 1)
})

test("both callbacks of two disconnects run", () => {
  const socket = new Socket("/socket")
  opened(socket)
  const done = noted()
  socket.disconnect(() => done("first"))
  socket.disconnect(() => done("second"))
  world.clock.advance(2_000)

  assert.deepEqual(done.calls.flat().sort(), ["first", "second"])
})

test("the end of one disconnect is not that of a later one", () => {
  const socket = new Socket("/socket")
  opened(socket).confirmsClose = false
  socket.disconnect()
  world.clock.advance(1_000)
  opened(socket).confirmsClose = false
  socket.disconnect()
  world.clock.advance(500) // the first one ends
  socket.connect()

  assert.equal(FakeWebSocket.all.length, 3)
})

test("two connects during a disconnect make one connection", () => {
  const socket = new Socket("/socket")
  opened(socket)
  socket.disconnect()
  socket.connect()
  socket.connect()

  assert.equal(FakeWebSocket.all.length, 2)
})

test("replacing the transport closes the connection at once, and does not connect", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  const clock = socket.connectClock
  socket.replaceTransport(LongPoll)

  assert.deepEqual(conn.closedWith, [])
  assert.equal(socket.conn, null)
  assert.equal(socket.transport, LongPoll)
  assert.equal(socket.connectClock, clock + 1)
  assert.equal(socket.closeWasClean, true)
  assert.equal(channel.state, "errored") // or it would never join over the next one
})

test("channels are kept as they are made, and removed by identity", () => {
  const socket = new Socket("/socket")
  const one = socket.channel("room:1", { a: 1 })
  const same = socket.channel("room:1")
  assert.deepEqual(socket.channels, [one, same])
  assert.deepEqual(one.params(), { a: 1 })
  assert.deepEqual(same.params(), {})
  socket.remove(one)

  assert.equal(socket.channels.length, 1)
  assert.equal(socket.channels[0], same)
  assert.deepEqual(
    socket.stateChangeCallbacks.open.map(([ref]) => ref),
    [same.stateChangeRefs[1]],
  )
})

test("a topic that is open is left before it is joined anew", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const first = joined(socket)
  const second = socket.channel("room:1")
  second.join()

  assert.deepEqual(
    conn.messages.map(([, , , event]) => event),
    ["phx_join", "phx_leave", "phx_join"],
  )
  assert.equal(first.state, "closed")
  assert.deepEqual(socket.channels, [second])
})

test("a ping needs a connection, measures, and is over with its answer", () => {
  const socket = new Socket("/socket")
  const rtt = noted()
  assert.equal(socket.ping(rtt), false)
  const conn = opened(socket)
  assert.equal(socket.ping(rtt), true)
  const message = conn.message
  assert.deepEqual(message.slice(2), ["phoenix", "heartbeat", {}])
  assert.equal(message[0], null)
  world.clock.advance(42)
  conn.receives(null, "999", "phoenix", "phx_reply", { status: "ok", response: {} })
  assert.equal(rtt.calls.length, 0)
  conn.replies("ok", {}, message)
  conn.replies("ok", {}, message)

  assert.deepEqual(rtt.calls, [[42]])
  assert.deepEqual([socket.stateChangeCallbacks.message, socket.pings], [[], []])
})

test("pings that a connection did not answer are forgotten with it", () => {
  const socket = new Socket("/socket")
  for (let n = 0; n < 3; n++) {
    opened(socket)
    socket.ping(() => {})
    socket.ping(() => {})
    socket.replaceTransport(FakeWebSocket)
  }
  opened(socket)

  assert.deepEqual(socket.stateChangeCallbacks.message, [])
})

test("what an encoder hands over late does not go out over another connection", () => {
  let hand
  const socket = new Socket("/socket", {
    encode: (message, callback) => (hand = () => callback("late")),
  })
  const conn = opened(socket)
  socket.push({ topic: "t", event: "e", payload: {} })
  socket.replaceTransport(FakeWebSocket)
  const next = opened(socket)
  hand()

  assert.deepEqual([conn.sent, next.sent], [[], []])
})
