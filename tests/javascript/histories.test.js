// Random histories of a page: its network, its server and its user do anything, in any order. In the
// end everything is well again, and the client has to be, too.

import assert from "node:assert/strict"
import { test } from "node:test"
import { LongPoll, Presence, Socket } from "./client.js"
import { FakeRequest, FakeStorage, FakeWebSocket, fakeWorld } from "./fakes.js"

const world = fakeWorld()
const HISTORIES = Number(globalThis.process?.env.HISTORIES ?? 1_000)
const FIRST = Number(globalThis.process?.env.FIRST ?? 1)

function numbers(seed) {
  for (let round = 0; round < 3; round++) seed = Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d) // mixed
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
}

/** One client over long-poll, as the server sees it. */
class Session {
  constructor(token) {
    this.token = token
    this.messages = []
  }

  receives(...message) {
    this.messages.push(JSON.stringify(message))
  }
}

/** A server that keeps the rules of the protocol: who is in which topic, over which connection. */
class FakeServer {
  constructor() {
    this.isUp = true
    this.joins = new Map() // topic -> [connection, join_ref]
    this.handled = new Map() // connection -> how many of its messages
    this.sessions = new Map() // token -> session
    this.tokens = 0
  }

  /** The connection of a transport, as the server sees it. */
  connection(conn) {
    return conn instanceof LongPoll ? this.sessions.get(conn.token) : conn
  }

  /** Forget a session, as after a restart. */
  lose(session) {
    this.forget(session)
    this.sessions.delete(session.token)
  }

  servePolls() {
    for (const request of FakeRequest.pending) {
      const session = this.sessions.get(request.headers["X-Phoenix-Longpoll-Token"])
      if (!this.isUp) request.fails()
      else if (request.method === "POST") {
        if (!session) request.answers({ status: 410 })
        else {
          this.handleLines(session, request.body)
          request.answers({ status: 200 })
        }
      } else if (!session) {
        const token = `t${++this.tokens}`
        this.sessions.set(token, new Session(token))
        request.answers({ status: 410, token, messages: [] })
      } else if (session.messages.length) {
        request.answers({ status: 200, token: session.token, messages: session.messages.splice(0) })
      }
    }
  }

  /** Answer what has come, over connections that are open. */
  serve() {
    this.servePolls()
    for (const conn of FakeWebSocket.all) {
      if (conn.readyState === 0) {
        if (this.isUp) conn.opens()
        else conn.fails()
      }
      if (conn.readyState !== 1) {
        this.forget(conn)
        continue
      }
      while (conn.readyState === 1 && (this.handled.get(conn) ?? 0) < conn.sent.length) {
        const number = this.handled.get(conn) ?? 0
        this.handled.set(conn, number + 1)
        this.handle(conn, conn.messages[number])
      }
    }
  }

  forget(conn) {
    for (const [topic, [other]] of this.joins) if (other === conn) this.joins.delete(topic)
  }

  handleLines(session, body) {
    for (const line of body.split("\n")) this.handle(session, JSON.parse(line))
  }

  handle(conn, [join_ref, ref, topic, event]) {
    const reply = (status, response = {}) =>
      conn.receives(join_ref, ref, topic, "phx_reply", { status, response })
    const joined = this.joins.get(topic)
    const isJoined = joined?.[0] === conn
    if (topic === "phoenix") return reply("ok")
    if (event === "phx_join") {
      this.joins.set(topic, [conn, join_ref])
      reply("ok")
      if (isJoined) conn.receives(joined[1], joined[1], topic, "phx_close")
      return conn.receives(null, null, topic, "presence_state", {
        [`${join_ref}`]: { metas: [{ phx_ref: join_ref }] },
      })
    }
    if (event === "phx_leave") {
      if (isJoined && join_ref !== null && joined[1] !== join_ref) return
      if (isJoined) this.joins.delete(topic)
      return reply("ok")
    }
    if (!isJoined) return reply("error", { reason: "unmatched topic" })
    if (join_ref === null || joined[1] === join_ref) reply("ok", { topic })
  }

  crash(topic) {
    const joined = this.joins.get(topic)
    if (!joined) return
    this.joins.delete(topic)
    const [conn, join_ref] = joined
    if (conn.readyState !== 3)
      conn.receives(join_ref, join_ref, topic, "phx_error", { reason: "channel_crash" })
  }
}

function play(seed) {
  const random = numbers(seed)
  const one = (...values) => values[random(values.length)]
  FakeWebSocket.all = []
  FakeRequest.all = []
  const server = new FakeServer()
  const options = one({}, { jitter: 0.5 }, { transport: LongPoll }, { longPollFallbackMs: 2_500 })
  const socket = new Socket("/socket", { sessionStorage: new FakeStorage(), ...options })
  const channels = new Map()
  const pushes = []
  const said = []
  const last = () => FakeWebSocket.last
  const topics = ["room:1", "room:2"]
  let isWanted = false

  const steps = {
    connect: () => (socket.connect(), (isWanted = true)),
    disconnect: () => (socket.disconnect(), (isWanted = false)),
    serve: () => {
      for (let turns = 1 + random(6); turns > 0; turns--) {
        server.serve()
        world.clock.advance(0)
      }
    },
    wait: () => world.clock.advance(one(0, 5, 10, 60, 150, 300, 400, 1_000, 3_000)),
    waitLong: () => world.clock.advance(one(10_000, 30_000, 60_000)),
    down: () => (server.isUp = false),
    up: () => (server.isUp = true),
    cut: () => {
      if (last()?.readyState < 3) last().closes(one(1006, 1001, 1011, 1012))
      for (const request of FakeRequest.pending)
        one(
          () => request.fails(),
          () => request.timesOut(),
          () => {},
        )()
    },
    forget: () => server.sessions.forEach((session) => server.lose(session)),
    fail: () => last()?.readyState === 0 && last().fails(),
    mute: () => last() && (last().confirmsClose = false),
    hide: () => world.page.hides(),
    show: () => world.page.shows(),
    online: () => world.page.tell("online"),
    leavePage: () => {
      world.page.tell("pagehide")
      for (const { headers, body } of world.fetched.splice(0)) {
        const session = server.sessions.get(headers["X-Phoenix-Longpoll-Token"])
        if (session && server.isUp) server.handleLines(session, body)
      }
    },
    enterPage: () => world.page.tell("pageshow"),
    join: () => {
      const topic = one(...topics)
      channels.get(topic)?.leave() // else the older channel, if it is errored, joins in its place
      const channel = socket.channel(topic)
      channels.set(topic, channel)
      new Presence(channel)
      channel.join()
    },
    leave: () => {
      const topic = one(...topics)
      channels.get(topic)?.leave()
      channels.delete(topic)
    },
    crash: () => server.crash(one(...topics)),
    push: () => {
      const channel = channels.get(one(...topics))
      if (!channel) return
      const push = { answers: [] }
      const sent = channel.push("shout")
      for (const status of ["ok", "error", "timeout"])
        sent.receive(status, () => push.answers.push(status))
      pushes.push(push)
    },
    replace: () => socket.replaceTransport(FakeWebSocket) || (isWanted = false),
  }
  // Each history has some kinds of trouble only, so that the others have time to show.
  const kinds = Object.keys(steps).filter(() => random(2) === 0)
  const names = ["connect", "join", "push", "serve", "serve", "wait", "wait", ...kinds, ...kinds]
  FakeWebSocket.closesAfterMs = one(0, 0, 100, 700, 3_000)
  for (let count = 10 + random(90); count > 0; count--) {
    const name = one(...names)
    said.push(name)
    steps[name]()
    const live = FakeWebSocket.all.filter((conn) => conn.readyState < 2 && !conn.closedWith)
    const polls = FakeRequest.pending.filter(({ method }) => method === "GET")
    assert.ok(live.length + polls.length <= 1, `${live.length + polls.length} connections at once`)
  }

  // Nobody wants it to be connected: then it is not.
  server.isUp = true
  if (!isWanted) {
    for (let seconds = 0; seconds < 10; seconds++) {
      world.clock.advance(1_000)
      server.serve()
    }
    assert.equal(socket.isConnected(), false, "it connected by itself")
  }

  // All is well again.
  world.page.shows()
  world.page.tell("pageshow")
  socket.connect()
  const pass = (seconds) => {
    for (; seconds > 0; seconds--) {
      server.serve()
      world.clock.advance(1_000)
    }
    server.serve()
  }
  pass(100)
  for (const [topic, channel] of channels) {
    server.crash(topic)
    pass(5)
    const push = { answers: [] }
    channel.push("shout").receive("ok", () => push.answers.push("ok"))
    pushes.push(push)
  }
  pass(5)
  assert.equal(socket.isConnected(), true, "it is not connected")
  const connection = server.connection(socket.conn)
  for (const session of server.sessions.values()) if (session !== connection) server.lose(session)
  for (const [topic, channel] of channels) {
    assert.equal(channel.state, "joined", `${topic} is ${channel.state}`)
    assert.deepEqual(
      server.joins.get(topic),
      [connection, channel.joinRef()],
      "the server knows of another join",
    )
    assert.deepEqual(channel.pushBuffer, [])
  }
  for (const topic of topics)
    if (!channels.has(topic)) assert.equal(server.joins.has(topic), false, `${topic} was left`)
  for (const { answers } of pushes)
    assert.equal(answers.length, 1, `a push was answered by ${answers}`)
  assert.equal(socket.sendBuffer.length, 0)
  assert.equal(socket.channels.length, channels.size)
  for (const { bindings } of channels.values()) {
    const waiting = bindings.filter(({ event }) => event.startsWith("chan_reply_"))
    assert.deepEqual(waiting, [], "what is answered is still bound")
  }
  assert.ok(world.clock.timers.size <= 1, `${world.clock.timers.size} timers run`) // the heartbeat
}

test("whatever happens, in the end there is one connection, and every channel is joined", () => {
  for (let seed = FIRST; seed < FIRST + HISTORIES; seed++) {
    world.clock.timers.clear()
    world.page = globalThis.window = Object.assign(new world.page.constructor())
    try {
      play(seed)
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`
      throw error
    }
  }
})
