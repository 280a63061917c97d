// One connection for all channels of a page.
//
// `conn` is the transport that is in use, a WebSocket or what looks like one; it changes from
// connection to connection, and only the events of the present one count. `connectClock` changes
// whenever the application, the page or a reconnect decides to connect or not, so that what was
// started before can see that it is out of date. `closeWasClean` says that nobody wants the socket
// to be connected. What is sent while it is not waits in `sendBuffer`.
//
//     connect -> transportConnect -> onConnOpen -> onConnMessage ... -> onConnClose
//                      ^                                                     |
//                      +---- teardown <---- reconnectTimer <-----------------+
//
// A heartbeat that is not answered closes the connection, too. The names of fields are those of
// the npm package phoenix, as applications and tests use them.

import Ajax from "./ajax.js"
import Channel from "./channel.js"
import {
  AUTH_TOKEN_PREFIX,
  CLOSED,
  CLOSING,
  closure,
  DEFAULT_TIMEOUT,
  DEFAULT_VSN,
  WS_CLOSE_NORMAL,
} from "./constants.js"
import Emitter from "./emitter.js"
import { followPage } from "./lifecycle.js"
import LongPoll from "./longpoll.js"
import Serializer from "./serializer.js"
import Timer from "./timer.js"

const RECONNECT_AFTER_MS = [10, 50, 100, 150, 200, 250, 500, 1000, 2000]
const REJOIN_AFTER_MS = [1000, 2000, 5000]
const LOGGED_OUT_CODES = [4401, 4403] // as HTTP's 401 and 403, among the codes for private use
const STATE_NAMES = ["connecting", "open", "closing", "closed"]
const WAKE_MS = 5000 // for the first answer after the machine slept
const LOOKS = 5 // at a connection that is closing, each 150 ms later than the one before

export default class Socket extends Emitter {
  /** See `index.d.ts` for the options. */
  constructor(endPoint, opts = {}) {
    super()
    this.stateChangeCallbacks = { open: [], close: [], error: [], message: [] }
    this.channels = []
    this.sendBuffer = []
    this.pings = []
    this.ref = 0
    this.conn = undefined
    this.opened = null // the conn whose open was told, and whose close was not
    this.connectClock = 1
    this.establishedConnections = 0
    this.closeWasClean = true // so that nothing connects by itself what was never connected
    this.disconnecting = false
    this.pageHidden = false
    this.loggedOut = false
    this.lastSeen = 0 // when a message came last, in ms of the clock

    this.fallbackRef = this.fallbackErrorRef = this.fallbackTimer = null
    this.primaryPassedHealthCheck = false
    this.longPollFallbackMs = opts.longPollFallbackMs

    this.transport = opts.transport || globalThis.WebSocket || LongPoll
    this.defaultEncoder = Serializer.encode.bind(Serializer)
    this.defaultDecoder = Serializer.decode.bind(Serializer)
    const custom = this.transport === LongPoll ? {} : opts
    this.encode = custom.encode || this.defaultEncoder
    this.decode = custom.decode || this.defaultDecoder

    this.timeout = opts.timeout || DEFAULT_TIMEOUT
    this.longpollerTimeout = opts.longpollerTimeout || 20_000
    this.heartbeatIntervalMs = opts.heartbeatIntervalMs || 30_000
    this.heartbeatTimer = this.heartbeatTimeoutTimer = this.pendingHeartbeatRef = null
    this.binaryType = opts.binaryType || "arraybuffer"
    this.vsn = opts.vsn || DEFAULT_VSN
    this.params = closure(opts.params || {})
    this.authToken = opts.authToken && closure(opts.authToken)
    this.isLogout = opts.isLogout || (({ code }) => LOGGED_OUT_CODES.includes(code))
    this.endPoint = `${endPoint}/websocket`
    this.sessionStore = opts.sessionStorage || stored("sessionStorage")
    this.logger = opts.logger || (opts.debug && printed) || null

    const jittered = (ms) => ms - ms * (opts.jitter || 0) * Math.random()
    this.reconnectAfterMs =
      opts.reconnectAfterMs || ((tries) => jittered(RECONNECT_AFTER_MS[tries - 1] || 5000))
    this.rejoinAfterMs =
      opts.rejoinAfterMs || ((tries) => jittered(REJOIN_AFTER_MS[tries - 1] || 10_000))
    this.reconnectTimer = new Timer(
      () => {
        if (!this.pageHidden) return this.reconnect()
        this.log("transport", "Not reconnecting as page is hidden!")
        this.teardown()
      },
      (tries) => this.reconnectAfterMs(tries),
    )
    followPage(this)
  }

  // Connecting and disconnecting.

  getLongPollTransport() {
    return LongPoll
  }

  /** Connect, unless it is connected or on the way to it. */
  connect(params) {
    if (params) {
      console.log("passing params to connect is deprecated")
      this.params = closure(params)
    }
    if (this.conn && !this.disconnecting) return
    this.loggedOut = false
    if (this.longPollFallbackMs && this.transport !== LongPoll) {
      this.connectWithFallback(LongPoll, this.longPollFallbackMs)
    } else {
      this.transportConnect()
    }
  }

  /** Disconnect for good, until the next `connect`. The callback runs when it is done. */
  disconnect(callback, code, reason) {
    const clock = this.stopConnecting()
    this.disconnecting = true
    this.teardown(
      () => {
        if (clock === this.connectClock) this.disconnecting = false
        callback?.()
      },
      code,
      reason,
    )
  }

  /** Close the connection at once; the next `connect` uses another class of transport. */
  replaceTransport(newTransport) {
    this.stopConnecting()
    const { conn } = this
    this.transport = newTransport
    if (!conn) return
    conn.close()
    this.drop(conn)
  }

  /** Nobody wants the socket to be connected. */
  stopConnecting() {
    this.closeWasClean = true
    clearTimeout(this.fallbackTimer)
    this.reconnectTimer.reset()
    return ++this.connectClock
  }

  /** Tear down and connect anew, unless somebody decides otherwise meanwhile. */
  reconnect() {
    const clock = this.connectClock
    this.teardown(() => {
      if (clock === this.connectClock) this.connect()
    })
  }

  /** Make sure of the connection: the page is seen again, or the network is back. */
  wake() {
    if (this.closeWasClean) return
    if (!this.isConnected()) {
      this.reconnectTimer.reset() // or it tears down what is made here
      this.reconnect()
    } else if (Date.now() - this.lastSeen > this.heartbeatIntervalMs) {
      if (!this.conn.skipHeartbeat && !this.pendingHeartbeatRef) {
        clearTimeout(this.heartbeatTimer)
        this.sendHeartbeat(Math.min(WAKE_MS, this.heartbeatIntervalMs)) // the timers slept
      }
    }
  }

  transportConnect() {
    const clock = ++this.connectClock
    this.closeWasClean = false
    this.disconnecting = false
    clearTimeout(this.reconnectTimer.timer)
    const token = this.authToken && this.authToken()
    if (typeof token?.then !== "function") return this.openTransport(token)
    const isCurrent = () => clock === this.connectClock
    token.then(
      (value) => isCurrent() && this.openTransport(value),
      (error) => {
        this.log("transport", "failed", error)
        if (isCurrent()) this.reconnectTimer.scheduleTimeout()
      },
    )
  }

  openTransport(token) {
    if (this.authToken && (token === null || token === undefined)) {
      return this.logOut({ reason: "no token" })
    }
    const protocols = this.authToken
      ? ["phoenix", AUTH_TOKEN_PREFIX + btoa(token).replace(/=/g, "")]
      : undefined
    const replaced = this.conn
    const Transport = this.transport
    const conn = new Transport(this.endPointURL(), protocols)
    conn.binaryType = this.binaryType
    conn.timeout = this.longpollerTimeout
    const ifCurrent = (handle) => (event) => conn === this.conn && handle(event)
    conn.onopen = ifCurrent(() => this.onConnOpen())
    conn.onerror = ifCurrent((error) => this.onConnError(error))
    conn.onmessage = ifCurrent((event) => this.onConnMessage(event))
    conn.onclose = ifCurrent((event) => this.onConnClose(event))
    this.conn = conn
    if (replaced) this.lost(replaced)
  }

  /** Forget a connection that is closed, or that need not be waited for. */
  drop(conn) {
    conn.onopen = conn.onerror = conn.onmessage = conn.onclose = () => {}
    this.conn = null
    this.lost(conn)
  }

  /** The channels join again if a connection goes whose close nobody will be told. */
  lost(conn) {
    if (this.opened !== conn) return
    this.opened = null
    this.clearHeartbeats()
    this.triggerChanError("connection_closed")
  }

  /** Close the connection once it has sent what it has, and wait a while until it is closed. */
  teardown(callback, code, reason) {
    const { conn } = this
    if (!conn) return callback?.()
    waitUntil(
      () => !conn.bufferedAmount || conn.readyState >= CLOSING,
      () => {
        if (code) conn.close(code, reason || "")
        else conn.close()
        waitUntil(
          () => conn.readyState === CLOSED,
          () => {
            if (this.conn === conn) this.drop(conn)
            callback?.()
          },
        )
      },
    )
  }

  /** The server, or who knows of sessions, says that this user has to log in again first. */
  logOut(event) {
    this.loggedOut = true
    this.log("transport", "logged out", event)
    this.disconnect()
    this.emit("logout", event)
  }

  /** Leave all channels over a transport that ends without the server noticing. */
  sayGoodbye() {
    if (!this.conn.goodbye || !this.isConnected()) return
    for (const channel of this.channels) {
      if (!channel.isOpen()) continue
      const { topic } = channel
      const join_ref = channel.joinRef()
      this.push({ topic, event: "phx_leave", payload: {}, ref: this.makeRef(), join_ref })
    }
    this.conn.goodbye()
  }

  // The fallback to long-poll.

  transportName(transport) {
    return transport === LongPoll ? "LongPoll" : transport.name // minifiers rename ours
  }

  getSession(key) {
    return this.sessionStore && this.sessionStore.getItem(key)
  }

  storeSession(key, value) {
    this.sessionStore && this.sessionStore.setItem(key, value)
  }

  /** Connect; where that brings no answer in time, use another transport from now on. */
  connectWithFallback(fallbackTransport, fallbackThreshold = 2500) {
    const name = this.transportName(fallbackTransport)
    const memory = `phx:fallback:${name}`
    let established = false
    let isPrimary = true
    clearTimeout(this.fallbackTimer)
    this.off([this.fallbackErrorRef]) // of the attempt before

    const fallBack = (reason) => {
      this.log("transport", `falling back to ${name}...`, reason)
      this.off([this.fallbackErrorRef])
      isPrimary = false
      this.replaceTransport(fallbackTransport)
      this.transportConnect()
    }
    if (this.getSession(memory)) return fallBack("memorized")

    const wait = () => {
      clearTimeout(this.fallbackTimer)
      this.fallbackTimer = setTimeout(fallBack, fallbackThreshold)
    }
    wait()
    this.fallbackErrorRef = this.onError((reason) => {
      this.log("transport", "error", reason)
      if (!isPrimary || established || this.closeWasClean) return // or it fails since we close it
      clearTimeout(this.fallbackTimer)
      fallBack(reason)
    })
    this.off([this.fallbackRef])
    this.fallbackRef = this.onOpen(() => {
      established = true
      if (!isPrimary) {
        if (!this.primaryPassedHealthCheck) this.storeSession(memory, "true")
        return this.log("transport", `established ${name} fallback`)
      }
      wait() // now for the answer
      this.ping((rtt) => {
        this.log("transport", "connected to primary after", rtt)
        this.primaryPassedHealthCheck = true
        clearTimeout(this.fallbackTimer)
      })
    })
    this.transportConnect()
  }

  // Where to connect to.

  protocol() {
    return /^https/.test(location.protocol) ? "wss" : "ws"
  }

  endPointURL() {
    const url = Ajax.appendParams(Ajax.appendParams(this.endPoint, this.params()), {
      vsn: this.vsn,
    })
    if (url[0] !== "/") return url
    if (url[1] === "/") return `${this.protocol()}:${url}`
    return `${this.protocol()}://${location.host}${url}`
  }

  // What happens to the connection.

  onConnOpen() {
    if (this.hasLogger()) {
      this.log(
        "transport",
        `${this.transportName(this.transport)} connected to ${this.endPointURL()}`,
      )
    }
    this.opened = this.conn
    this.closeWasClean = false
    this.disconnecting = false
    this.establishedConnections++
    this.lastSeen = Date.now()
    this.off(this.pings.splice(0)) // nobody will answer those of the connection before
    this.flushSendBuffer()
    this.reconnectTimer.reset()
    this.resetHeartbeat()
    this.tell("open")
  }

  onConnClose(event) {
    if (this.conn) this.conn.onclose = () => {}
    this.opened = null
    this.log("transport", "close", event)
    const clock = this.connectClock
    this.triggerChanError("connection_closed")
    this.clearHeartbeats()
    // What was called back may have connected or disconnected: that counts, then.
    if (clock === this.connectClock && !this.closeWasClean) this.decideAfter(event)
    this.tell("close", event)
  }

  /** Reconnect after a close that nobody here wanted, or not. */
  decideAfter(event) {
    const clock = this.connectClock
    const answer = event ? this.isLogout(event) : false
    if (answer === true) return this.logOut(event)
    if (event?.code !== WS_CLOSE_NORMAL) this.reconnectTimer.scheduleTimeout()
    if (typeof answer?.then !== "function") return
    const isUnchanged = () => clock === this.connectClock || !this.isConnected()
    answer.then(
      (isLogout) => isLogout === true && isUnchanged() && !this.closeWasClean && this.logOut(event),
      (error) => this.log("transport", "failed", error),
    )
  }

  onConnError(error) {
    if (this.hasLogger()) this.log("transport", "error", error)
    const { transport, establishedConnections } = this
    this.tell("error", error, transport, establishedConnections)
    if (transport === this.transport || establishedConnections > 0) {
      this.triggerChanError("connection_error")
    }
  }

  onConnMessage(rawMessage) {
    const { conn } = this
    this.lastSeen = Date.now()
    this.decode(rawMessage.data, (message) => {
      if (conn !== this.conn) return // decoded too late
      const { topic, event, payload, ref, join_ref } = message
      if (ref && ref === this.pendingHeartbeatRef) {
        this.resetHeartbeat()
      }
      if (this.hasLogger()) {
        this.log(
          "receive",
          `${payload?.status || ""} ${topic} ${event} ${ref ? `(${ref})` : ""}`,
          payload,
        )
      }
      for (const channel of this.channels) {
        if (channel.isMember(topic, event, payload, join_ref)) {
          channel.trigger(event, payload, ref, join_ref)
        }
      }
      this.tell("message", message)
    })
  }

  /** Tell the channels that do not know it yet that their connection is gone. */
  triggerChanError(reason) {
    for (const channel of [...this.channels]) {
      if (channel.isOpen()) channel.trigger("phx_error", { source: "transport", reason })
    }
  }

  connectionState() {
    return STATE_NAMES[this.conn?.readyState] || "closed"
  }

  isConnected() {
    return this.connectionState() === "open"
  }

  // Heartbeats.

  resetHeartbeat() {
    if (this.conn?.skipHeartbeat) return
    this.pendingHeartbeatRef = null
    this.clearHeartbeats()
    this.heartbeatTimer = setTimeout(() => this.sendHeartbeat(), this.heartbeatIntervalMs)
  }

  clearHeartbeats() {
    clearTimeout(this.heartbeatTimer)
    clearTimeout(this.heartbeatTimeoutTimer)
  }

  sendHeartbeat(deadline = this.heartbeatIntervalMs) {
    if (this.pendingHeartbeatRef && !this.isConnected()) return
    this.pendingHeartbeatRef = this.makeRef()
    this.push({ topic: "phoenix", event: "heartbeat", payload: {}, ref: this.pendingHeartbeatRef })
    this.heartbeatTimeoutTimer = setTimeout(() => this.heartbeatTimeout(), deadline)
  }

  heartbeatTimeout() {
    if (!this.pendingHeartbeatRef) return
    this.pendingHeartbeatRef = null
    this.log("transport", "heartbeat timeout")
    const clock = this.connectClock
    this.triggerChanError("heartbeat_timeout")
    if (clock !== this.connectClock) return // what was called back has decided otherwise
    this.closeWasClean = false
    this.teardown(
      () => {
        if (clock === this.connectClock) this.reconnectTimer.scheduleTimeout()
      },
      WS_CLOSE_NORMAL,
      "heartbeat timeout",
    )
  }

  /** Measure the round trip in ms. False if nobody is there to answer. */
  ping(callback) {
    if (!this.isConnected()) return false
    const ref = this.makeRef()
    const sentAt = Date.now()
    this.push({ topic: "phoenix", event: "heartbeat", payload: {}, ref })
    const listener = this.onMessage((message) => {
      if (message.ref !== ref) return
      this.off([listener])
      this.pings.splice(this.pings.indexOf(listener), 1)
      callback(Date.now() - sentAt)
    })
    this.pings.push(listener)
    return true
  }

  // Channels and what they send.

  /** Make a channel for a topic, to be joined. */
  channel(topic, params = {}) {
    const channel = new Channel(topic, params, this)
    this.channels.push(channel)
    return channel
  }

  remove(channel) {
    this.off(channel.stateChangeRefs)
    this.channels = this.channels.filter((each) => each !== channel)
  }

  leaveOpenTopic(topic) {
    const open = this.channels.find((channel) => channel.topic === topic && channel.isOpen())
    if (!open) return
    this.log("transport", `leaving duplicate topic "${topic}"`)
    open.leave()
  }

  push(message) {
    const { topic, event, payload, ref, join_ref } = message
    if (this.hasLogger()) this.log("push", `${topic} ${event} (${join_ref}, ${ref})`, payload)
    const send = () => {
      const { conn } = this
      this.encode(message, (encoded) => conn === this.conn && conn.send(encoded))
    }
    if (this.isConnected()) send()
    else this.sendBuffer.push(send)
  }

  flushSendBuffer() {
    if (!this.isConnected()) return
    const buffered = this.sendBuffer
    this.sendBuffer = []
    for (const send of buffered) {
      try {
        send()
      } catch (error) {
        setTimeout(() => {
          throw error // nobody is left to catch it, and the others are to be sent
        }, 0)
      }
    }
  }

  /** The next ref; past the numbers that can be told apart it begins anew. */
  makeRef() {
    const next = this.ref + 1
    this.ref = next === this.ref ? 0 : next
    return this.ref.toString()
  }

  // Callbacks of the application.

  onOpen(callback) {
    return this.follow("open", callback)
  }

  onClose(callback) {
    return this.follow("close", callback)
  }

  onError(callback) {
    return this.follow("error", callback)
  }

  onMessage(callback) {
    return this.follow("message", callback)
  }

  follow(kind, callback) {
    const ref = this.makeRef()
    this.stateChangeCallbacks[kind].push([ref, callback])
    return ref
  }

  tell(kind, ...args) {
    for (const [, callback] of [...this.stateChangeCallbacks[kind]]) callback(...args)
    this.emit(kind, args[0])
  }

  /** End what `onOpen`, `onClose`, `onError` and `onMessage` have returned the refs of. */
  off(refs) {
    for (const [kind, callbacks] of Object.entries(this.stateChangeCallbacks)) {
      this.stateChangeCallbacks[kind] = callbacks.filter(([ref]) => !refs.includes(ref))
    }
  }

  log(kind, message, data) {
    this.logger?.(kind, message, data)
  }

  hasLogger() {
    return this.logger !== null
  }
}

/** Call back as soon as something holds, or when it was looked at often enough. */
function waitUntil(holds, callback, look = 1) {
  if (look === LOOKS || holds()) return callback()
  setTimeout(() => waitUntil(holds, callback, look + 1), 150 * look)
}

const printed = (kind, message, data) => console.log(`${kind}: ${message}`, data)

/** A storage of the browser, or undefined where there is none or it may not be used. */
function stored(name) {
  try {
    return globalThis[name]
  } catch {
    return undefined
  }
}
