import assert from "node:assert/strict"
import { test } from "node:test"
import { LongPoll, Socket } from "./client.js"
import { FakeRequest, fakeWorld } from "./fakes.js"

const world = fakeWorld()
const posts = () => FakeRequest.all.filter(({ method }) => method === "POST")

/** A long-poll whose first poll is under way. */
function started(protocols) {
  const poll = new LongPoll("ws://example.com/socket/websocket?vsn=2.0.0", protocols)
  const told = []
  poll.onopen = () => told.push("open")
  poll.onerror = (error) => told.push(["error", error])
  poll.onmessage = ({ data }) => told.push(["message", data])
  poll.onclose = ({ code, reason, wasClean }) => told.push(["close", code, reason ?? "", wasClean])
  poll.timeout = 20_000
  world.clock.advance(0)
  return { poll, told }
}

/** A long-poll that has a session, and whose next poll is under way. */
function open() {
  const both = started()
  FakeRequest.last.answers({ status: 410, token: "t1", messages: [] })
  both.told.length = 0
  return both
}

test("the address is that of HTTP, with longpoll in place of the last websocket", () => {
  const poll = new LongPoll("ws://example.com/socket/websocket")
  assert.equal(poll.pollEndpoint, "http://example.com/socket/longpoll")
  assert.equal(
    poll.normalizeEndpoint("wss://a.com/websocket/websocket"),
    "https://a.com/websocket/longpoll",
  )
  assert.equal(poll.readyState, 0)
  assert.equal(poll.skipHeartbeat, true)
})

test("the first poll waits until its handlers are set", () => {
  new LongPoll("ws://example.com/socket/websocket")
  assert.equal(FakeRequest.all.length, 0)
  world.clock.advance(0)
  const { method, url, headers, isAsync } = FakeRequest.last

  assert.deepEqual([method, url, isAsync], ["GET", "http://example.com/socket/longpoll", true])
  assert.deepEqual(headers, { Accept: "application/json" })
})

test("what is closed before the first poll polls never", () => {
  new LongPoll("ws://example.com/socket/websocket").close()
  world.clock.advance(0)

  assert.equal(FakeRequest.all.length, 0)
})

test("the auth token is in each poll and in no post, if exactly two protocols name it", () => {
  const { poll } = started(["phoenix", "base64url.bearer.phx.MTIzNA"])
  assert.equal(FakeRequest.last.headers["X-Phoenix-AuthToken"], "1234")
  FakeRequest.last.answers({ status: 410, token: "t1" })
  assert.equal(FakeRequest.last.headers["X-Phoenix-AuthToken"], "1234")
  poll.send("a")
  world.clock.advance(0)
  assert.equal(posts()[0].headers["X-Phoenix-AuthToken"], undefined)

  assert.equal(new LongPoll("ws://x/websocket", ["phoenix"]).authToken, undefined)
  assert.equal(new LongPoll("ws://x/websocket", ["phoenix", "other"]).authToken, undefined)
})

test("410 without a token opens the session, whose token is sent from then on", () => {
  const { poll, told } = started()
  FakeRequest.last.answers({ status: 410, token: "t1", messages: [] })

  assert.deepEqual(told, ["open"])
  assert.equal(poll.readyState, 1)
  assert.equal(poll.token, "t1")
  assert.equal(FakeRequest.all.length, 2)
  assert.equal(FakeRequest.last.headers["X-Phoenix-Longpoll-Token"], "t1")
  poll.send("a")
  world.clock.advance(0)
  assert.equal(posts()[0].headers["X-Phoenix-Longpoll-Token"], "t1")
})

test("a handler that closes at the open ends the polling", () => {
  const { poll } = started()
  poll.onopen = () => poll.close()
  FakeRequest.last.answers({ status: 410, token: "t1" })

  assert.equal(FakeRequest.all.length, 1)
})

test("200 delivers each message in a task of its own, in order, and polls on", () => {
  const { told } = open()
  FakeRequest.last.answers({ status: 200, token: "t2", messages: ["a", "b"] })
  assert.deepEqual(told, [])
  assert.equal(FakeRequest.last.headers["X-Phoenix-Longpoll-Token"], "t2")
  assert.equal(world.clock.timers.size, 2)
  world.clock.advance(0)

  assert.deepEqual(told, [
    ["message", "a"],
    ["message", "b"],
  ])
})

test("what was not delivered when it closed is not delivered", () => {
  const { poll, told } = open()
  FakeRequest.last.answers({ status: 200, token: "t2", messages: ["a", "b"] })
  poll.onmessage = ({ data }) => (told.push(data), poll.close())
  world.clock.advance(0)

  assert.deepEqual(told, ["a", ["close", 1000, "", true]])
})

test("204 polls on", () => {
  const { told } = open()
  FakeRequest.last.answers({ status: 204, token: "t1", messages: [] })

  assert.deepEqual(told, [])
  assert.equal(FakeRequest.pending.length, 1)
})

test("410 with a token says that the session is gone", () => {
  const { poll, told } = open()
  FakeRequest.last.answers({ status: 410, token: "t2", messages: [] })

  assert.deepEqual(told, [
    ["error", 410],
    ["close", 3410, "session_gone", false],
  ])
  assert.equal(poll.readyState, 0)
  assert.equal(FakeRequest.pending.length, 0)
})

test("403 says that it is forbidden, and stays closed", () => {
  const { poll, told } = started()
  FakeRequest.last.answers({ status: 403 })

  assert.deepEqual(told, [
    ["error", 403],
    ["close", 1008, "forbidden", false],
  ])
  assert.equal(poll.readyState, 3)
})

for (const [name, answer] of [
  ["500", (request) => request.answers({ status: 500 })],
  ["no answer", (request) => request.fails()],
  ["an answer that is no JSON", (request) => request.answers("<html>")],
]) {
  test(`${name} is an error of the server`, () => {
    const { poll, told } = open()
    answer(FakeRequest.last)

    assert.deepEqual(told, [
      ["error", 500],
      ["close", 1011, "internal server error", false],
    ])
    assert.equal(poll.readyState, 0)
  })
}

test("another status is a mistake", () => {
  open()

  assert.throws(() => FakeRequest.last.answers({ status: 418 }), /unhandled poll status 418/)
})

test("a poll that takes longer than the timeout closes", () => {
  const { poll, told } = open()
  assert.equal(FakeRequest.last.timeout, 20_000)
  FakeRequest.last.timesOut()

  assert.deepEqual(told, [
    ["error", "timeout"],
    ["close", 1005, "timeout", false],
  ])
  assert.equal(poll.readyState, 0)
})

test("who closes in a handler of the close closes for good", () => {
  const { poll } = open()
  poll.onclose = () => {
    poll.onclose = () => {}
    poll.close()
  }
  FakeRequest.last.timesOut()

  assert.equal(poll.readyState, 3)
})

test("an answer that comes after the close is nobody's", () => {
  const { poll, told } = open()
  const request = FakeRequest.last
  poll.close()
  request.answers({ status: 200, token: "t2", messages: ["a"] })
  world.clock.advance(0)

  assert.equal(request.aborted, true)
  assert.deepEqual(told, [["close", 1000, "", true]])
})

test("a close has a code, a reason and whether it is clean", () => {
  const { poll, told } = open()
  poll.close(4000, "why", false)

  assert.deepEqual(told, [["close", 4000, "why", false]])
  assert.equal(poll.readyState, 3)
  assert.equal(poll.reqs.size, 0)
})

test("what is sent in one turn goes in one post, a line each", () => {
  const { poll } = open()
  poll.send("a")
  poll.send("b")
  assert.equal(posts().length, 0)
  world.clock.advance(0)

  assert.deepEqual(
    posts().map(({ body }) => body),
    ["a\nb"],
  )
  assert.equal(posts()[0].headers["Content-Type"], "application/x-ndjson")
})

test("what is sent while a post is under way goes in the next one", () => {
  const { poll } = open()
  poll.send("a")
  world.clock.advance(0)
  assert.equal(poll.awaitingBatchAck, true)
  poll.send("b")
  poll.send("c")
  world.clock.advance(0)
  assert.equal(posts().length, 1)
  posts()[0].answers({ status: 200 })
  assert.deepEqual(
    posts().map(({ body }) => body),
    ["a", "b\nc"],
  )
  posts()[1].answers({ status: 200 })

  assert.equal(poll.awaitingBatchAck, false)
  assert.deepEqual(poll.batchBuffer, [])
})

test("a post has a hundred lines at most, and the next hundred follow its answer", () => {
  const { poll } = open()
  for (let n = 0; n < 250; n++) poll.send(String(n))
  world.clock.advance(0)
  const sizes = []
  for (let n = 0; n < 3; n++) {
    sizes.push(posts()[n].body.split("\n").length)
    assert.equal(posts().length, n + 1)
    posts()[n].answers({ status: 200 })
  }

  assert.deepEqual(sizes, [100, 100, 50])
  assert.equal(posts()[2].body.split("\n").at(-1), "249")
})

for (const [name, answer, error] of [
  ["another status", (request) => request.answers({ status: 408 }), 408],
  ["410", (request) => request.answers({ status: 410 }), 410],
  ["no answer", (request) => request.fails(), undefined],
]) {
  test(`a post that gets ${name} closes`, () => {
    const { poll, told } = open()
    poll.send("a")
    world.clock.advance(0)
    answer(posts()[0])

    assert.deepEqual(told, [
      ["error", error],
      ["close", 1011, "internal server error", false],
    ])
    assert.equal(poll.awaitingBatchAck, false)
  })
}

test("a post that takes too long closes", () => {
  const { poll, told } = open()
  poll.send("a")
  world.clock.advance(0)
  posts()[0].timesOut()

  assert.deepEqual(told, [
    ["error", "timeout"],
    ["close", 1005, "timeout", false],
  ])
})

test("a close drops what is not sent yet", () => {
  const { poll } = open()
  poll.send("a")
  poll.close()
  world.clock.advance(0)

  assert.equal(posts().length, 0)
  assert.deepEqual([poll.currentBatch, poll.batchBuffer], [null, []])
})

test("binary is sent as base64", () => {
  const { poll } = open()
  poll.send(new Uint8Array([0, 1, 255]).buffer)
  poll.send(new Uint8Array([9, 0, 1, 255]).subarray(1))
  world.clock.advance(0)

  assert.equal(posts()[0].body, "AAH/\nAAH/")
})

test("a page that closes leaves its channels, so that nobody waits for the session to end", () => {
  const socket = new Socket("/socket", { transport: LongPoll })
  socket.connect()
  world.clock.advance(0)
  FakeRequest.last.answers({ status: 410, token: "t1" })
  const channel = socket.channel("room:1")
  channel.join()
  world.clock.advance(0)
  posts()[0].answers({ status: 200 })
  const reply = JSON.stringify(["3", "3", "room:1", "phx_reply", { status: "ok", response: {} }])
  FakeRequest.pending[0].answers({ status: 200, token: "t1", messages: [reply] })
  world.clock.advance(0)
  assert.equal(channel.state, "joined")
  channel.push("last", { words: 1 })
  world.page.tell("pagehide")

  const [{ url, method, keepalive, headers, body }] = world.fetched
  assert.deepEqual(
    [url, method, keepalive],
    ["http://example.com/socket/longpoll?vsn=2.0.0", "POST", true],
  )
  assert.equal(headers["X-Phoenix-Longpoll-Token"], "t1")
  assert.deepEqual(
    body.split("\n").map((line) => JSON.parse(line)),
    [
      ["3", "4", "room:1", "last", { words: 1 }],
      ["3", "5", "room:1", "phx_leave", {}],
    ],
  )
})

test("a socket over long-poll joins anew when its session is gone", () => {
  const socket = new Socket("/socket", { transport: LongPoll })
  socket.connect()
  world.clock.advance(0)
  FakeRequest.last.answers({ status: 410, token: "t1" })
  const channel = socket.channel("room:1")
  channel.join()
  world.clock.advance(0)
  FakeRequest.pending.find(({ method }) => method === "GET").answers({ status: 410, token: "t2" })
  assert.equal(channel.state, "errored")
  world.clock.advance(10)
  world.clock.advance(0)
  assert.equal(FakeRequest.last.headers["X-Phoenix-Longpoll-Token"], undefined)
  FakeRequest.last.answers({ status: 410, token: "t3" })

  assert.equal(channel.state, "joining")
})
