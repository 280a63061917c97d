// What the client has around it, made up: a clock, WebSockets, HTTP, a page and its storage.

import { afterEach, beforeEach } from "node:test"

const real = { setTimeout, clearTimeout, fetch, now: Date.now, log: console.log }

/** Time that passes only when a test says so. */
export class Clock {
  constructor() {
    this.now = 0
    this.timers = new Map()
    this.count = 0
  }

  install() {
    globalThis.setTimeout = (callback, ms = 0) => {
      this.timers.set(++this.count, { at: this.now + ms, callback, id: this.count })
      return this.count
    }
    globalThis.clearTimeout = (id) => this.timers.delete(id)
    Date.now = () => this.now
  }

  /** Let ms pass, and run what is due meanwhile, in order. */
  advance(ms) {
    const end = this.now + ms
    for (;;) {
      const due = [...this.timers.values()].filter(({ at }) => at <= end)
      if (!due.length) break
      due.sort((one, other) => one.at - other.at || one.id - other.id)
      const [{ at, callback, id }] = due
      this.timers.delete(id)
      this.now = Math.max(this.now, at)
      callback()
    }
    this.now = end
  }

  /** Let ms pass at once, as for a machine that sleeps. */
  sleep(ms) {
    this.now += ms
  }
}

/** A WebSocket whose server is the test. */
export class FakeWebSocket {
  static all = []
  static closesAfterMs = 0

  constructor(url, protocols) {
    Object.assign(this, {
      url,
      protocols,
      readyState: 0,
      sent: [],
      closedWith: null,
      bufferedAmount: 0,
    })
    this.confirmsClose = true
    FakeWebSocket.all.push(this)
  }

  static get last() {
    return FakeWebSocket.all.at(-1)
  }

  opens() {
    this.readyState = 1
    this.onopen({})
  }

  send(data) {
    if (this.readyState !== 1) throw new Error("not open")
    this.sent.push(data)
  }

  /** What was sent, as arrays. */
  get messages() {
    return this.sent.map((data) => JSON.parse(data))
  }

  /** What was sent last, as an array. */
  get message() {
    return this.messages.at(-1)
  }

  receives(join_ref, ref, topic, event, payload = {}) {
    this.onmessage({ data: JSON.stringify([join_ref, ref, topic, event, payload]) })
  }

  /** The server answers the message that was sent last, or the one given. */
  replies(status = "ok", response = {}, [join_ref, ref, topic] = this.message) {
    this.receives(join_ref, ref, topic, "phx_reply", { status, response })
  }

  fails() {
    this.readyState = 3
    this.onerror({ type: "error" })
    this.onclose({ code: 1006, reason: "", wasClean: false })
  }

  /** The server closes, or the network does. */
  closes(code = 1006, reason = "") {
    this.readyState = 3
    this.onclose({ code, reason, wasClean: code !== 1006 })
  }

  close(...args) {
    if (this.closedWith) return
    this.closedWith = args
    if (this.readyState === 3) return
    this.readyState = 2
    if (!this.confirmsClose) return
    setTimeout(() => this.closes(args[0] ?? 1005, args[1]), FakeWebSocket.closesAfterMs)
  }
}

/** An XMLHttpRequest whose server is the test. */
export class FakeRequest {
  static all = []

  static get last() {
    return FakeRequest.all.at(-1)
  }

  static get pending() {
    return FakeRequest.all.filter((request) => !request.isDone)
  }

  constructor() {
    Object.assign(this, { headers: {}, isDone: false, aborted: false })
    FakeRequest.all.push(this)
  }

  open(method, url, isAsync) {
    Object.assign(this, { method, url, isAsync })
  }

  setRequestHeader(name, value) {
    this.headers[name] = value
  }

  send(body) {
    this.body = body
  }

  answers(answer) {
    this.isDone = true
    this.readyState = 4
    this.responseText = typeof answer === "string" ? answer : JSON.stringify(answer)
    this.onreadystatechange()
  }

  fails() {
    this.isDone = true
    this.onerror()
  }

  timesOut() {
    this.isDone = true
    this.ontimeout()
  }

  abort() {
    this.aborted = true
    if (this.isDone) return
    this.isDone = true
    this.readyState = 4
    this.responseText = ""
    this.onreadystatechange() // as browsers do
  }
}

/** A window: dispatches events, is hidden and shown. */
export class FakePage extends EventTarget {
  constructor() {
    super()
    this.document = Object.assign(new EventTarget(), { visibilityState: "visible" })
  }

  tell(type) {
    this.dispatchEvent(new Event(type))
  }

  hides() {
    this.document.visibilityState = "hidden"
    this.tell("visibilitychange")
  }

  shows() {
    this.document.visibilityState = "visible"
    this.tell("visibilitychange")
  }
}

export class FakeStorage {
  constructor(values = {}) {
    this.values = { ...values }
  }

  getItem(name) {
    return this.values[name] ?? null
  }

  setItem(name, value) {
    this.values[name] = value
  }

  removeItem(name) {
    delete this.values[name]
  }
}

/** Let a file's tests have a clock, WebSockets and a page. Returns what holds them. */
export function fakeWorld() {
  const world = { clock: null, page: null, printed: null, fetched: null }
  beforeEach(() => {
    world.clock = new Clock()
    world.clock.install()
    world.page = globalThis.window = new FakePage()
    world.printed = []
    world.fetched = []
    globalThis.fetch = async (url, options) => void world.fetched.push({ url, ...options })
    console.log = (...args) => world.printed.push(args)
    setLocation({ protocol: "http:", host: "example.com" })
    globalThis.WebSocket = FakeWebSocket
    globalThis.XMLHttpRequest = FakeRequest
    FakeWebSocket.all = []
    FakeWebSocket.closesAfterMs = 0
    FakeRequest.all = []
  })
  afterEach(() => {
    globalThis.setTimeout = real.setTimeout
    globalThis.clearTimeout = real.clearTimeout
    globalThis.fetch = real.fetch
    Date.now = real.now
    console.log = real.log
    for (const name of ["window", "location", "WebSocket", "XMLHttpRequest", "sessionStorage"]) {
      delete globalThis[name]
    }
  })
  return world
}

/** Put an address in place of the real one, which a worker of a browser has read-only. */
export function setLocation(value) {
  Object.defineProperty(globalThis, "location", { value, configurable: true, writable: true })
}

/** Let promises settle. */
export const settled = () => new Promise((resolve) => real.setTimeout.call(globalThis, resolve, 0))

/** Connect a socket, and open its connection. */
export function opened(socket) {
  socket.connect()
  FakeWebSocket.last.opens()
  return FakeWebSocket.last
}

/** Join a topic over an open connection, and let the server agree. */
export function joined(socket, topic = "room:1", params = {}) {
  const channel = socket.channel(topic, params)
  channel.join()
  FakeWebSocket.last.replies()
  return channel
}

/** A function that notes what it is called with. */
export function noted(result) {
  const calls = []
  return Object.assign((...args) => (calls.push(args), result), { calls })
}
