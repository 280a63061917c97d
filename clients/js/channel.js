// A channel is in one of five states:
//
//     closed -> joining (join)            joining -> joined (ok) or errored (error, timeout)
//     joined -> errored (phx_error)       errored -> joining (rejoin timer, or socket open)
//     any -> leaving -> closed (leave)    any -> closed (phx_close)
//
// Each join has a ref, which the server puts on what it sends to this join alone. Messages with
// the ref of an earlier join are dropped. Pushes wait in `pushBuffer` while it is not joined.

import { closure } from "./constants.js"
import Emitter from "./emitter.js"
import Push from "./push.js"
import Timer from "./timer.js"

const SWEEP = 100 // waiting pushes, after each of which those that timed out are let go

export default class Channel extends Emitter {
  /** Made by `socket.channel(topic, params)`; `params` may be a function, called at every join. */
  constructor(topic, params, socket) {
    super()
    this.state = "closed"
    this.topic = topic
    this.params = closure(params || {})
    this.socket = socket
    this.bindings = []
    this.bindingRef = 0
    this.timeout = socket.timeout
    this.joinedOnce = false
    this.joinPush = new Push(this, "phx_join", this.params, this.timeout)
    this.pushBuffer = []
    this.rejoinTimer = new Timer(() => {
      if (socket.isConnected()) this.rejoin()
    }, socket.rejoinAfterMs)
    this.stateChangeRefs = [
      socket.onError(() => this.rejoinTimer.reset()),
      socket.onOpen(() => {
        this.rejoinTimer.reset()
        if (this.isErrored()) this.rejoin()
      }),
    ]
    this.followJoin()
    this.followServer()
  }

  followJoin() {
    this.joinPush
      .receive("ok", () => {
        this.state = "joined"
        this.rejoinTimer.reset()
        const pushes = this.pushBuffer
        this.pushBuffer = []
        for (const push of pushes) push.send()
      })
      .receive("error", () => this.failed())
      .receive("timeout", () => {
        this.log(() => `timeout ${this.topic} (${this.joinRef()})`, this.joinPush.timeout)
        new Push(this, "phx_leave", closure({}), this.timeout).send()
        this.joinPush.reset()
        this.failed()
      })
  }

  followServer() {
    this.onClose(() => {
      this.rejoinTimer.reset()
      this.log(() => `close ${this.topic} ${this.joinRef()}`)
      this.state = "closed"
      this.socket.remove(this)
    })
    this.onError((reason) => {
      this.log(() => `error ${this.topic}`, reason)
      if (this.isJoining()) this.joinPush.reset() // a late reply is not for the next join
      this.failed()
    })
    this.on("phx_reply", (payload, ref) => this.trigger(this.replyEventName(ref), payload))
  }

  failed() {
    this.state = "errored"
    if (this.socket.isConnected()) this.rejoinTimer.scheduleTimeout()
  }

  /** Join, once; afterwards the channel joins again by itself. Await it, or `receive`. */
  join(timeout = this.timeout) {
    if (this.joinedOnce) {
      throw new Error("tried to join multiple times: a channel joins again by itself")
    }
    this.timeout = timeout
    this.joinedOnce = true
    this.rejoin()
    return this.joinPush
  }

  /** Leave, and stay closed. The channel is closed at once, before the server has answered. */
  leave(timeout = this.timeout) {
    this.rejoinTimer.reset()
    this.joinPush.cancelTimeout()
    this.state = "leaving"
    const close = () => {
      this.log(() => `leave ${this.topic}`)
      this.trigger("phx_close", "leave")
    }
    const push = new Push(this, "phx_leave", closure({}), timeout)
    push.receive("ok", close).receive("timeout", close)
    push.send()
    if (!this.canPush()) push.trigger("ok", {})
    return push
  }

  /** Send an event. It waits for the join if need be, and times out all the same. */
  push(event, payload, timeout = this.timeout) {
    if (!this.joinedOnce) {
      throw new Error(
        `tried to push '${event}' to '${this.topic}' before joining: call join() first`,
      )
    }
    const sent = payload || {}
    const push = new Push(this, event, () => sent, timeout)
    if (this.canPush()) {
      push.send()
    } else {
      push.startTimeout()
      if (this.pushBuffer.push(push) % SWEEP === 0) {
        this.pushBuffer = this.pushBuffer.filter((each) => !each.hasReceived("timeout"))
      }
    }
    return push
  }

  /** Call back with each payload of an event. Returns a ref for `off`. */
  on(event, callback) {
    const ref = this.bindingRef++
    this.bindings.push({ event, ref, callback })
    return ref
  }

  /** End one callback of an event, or without a ref all of them. */
  off(event, ref) {
    this.bindings = this.bindings.filter(
      (binding) => binding.event !== event || (ref !== undefined && binding.ref !== ref),
    )
  }

  onClose(callback) {
    return this.on("phx_close", callback)
  }

  onError(callback) {
    return this.on("phx_error", (reason) => callback(reason))
  }

  /** Override it to see, and change, every payload first. It has to return the payload. */
  onMessage(_event, payload, _ref, _joinRef) {
    return payload
  }

  canPush() {
    return this.socket.isConnected() && this.isJoined()
  }

  joinRef() {
    return this.joinPush.ref
  }

  isMember(topic, event, payload, joinRef) {
    if (this.topic !== topic) return false
    if (!joinRef || joinRef === this.joinRef()) return true
    this.log(() => "dropping outdated message", { topic, event, payload, joinRef })
    return false
  }

  rejoin(timeout = this.timeout) {
    if (this.isLeaving()) return
    this.socket.leaveOpenTopic(this.topic)
    this.state = "joining"
    this.joinPush.resend(timeout)
  }

  /** Hand an event to `onMessage`, to those who are bound now, and to listeners. */
  trigger(event, payload, ref, joinRef) {
    const handled = this.onMessage(event, payload, ref, joinRef)
    if (payload && !handled) {
      throw new Error("channel onMessage callbacks must return the payload, modified or unmodified")
    }
    for (const binding of this.bindings.filter((each) => each.event === event)) {
      binding.callback(handled, ref, joinRef || this.joinRef())
    }
    this.emit(event, handled)
  }

  log(message, data) {
    if (this.socket.hasLogger()) this.socket.log("channel", message(), data)
  }

  replyEventName(ref) {
    return `chan_reply_${ref}`
  }

  /** Whether the server has it, or is asked to. */
  isOpen() {
    return this.isJoined() || this.isJoining()
  }

  isClosed() {
    return this.state === "closed"
  }

  isErrored() {
    return this.state === "errored"
  }

  isJoined() {
    return this.state === "joined"
  }

  isJoining() {
    return this.state === "joining"
  }

  isLeaving() {
    return this.state === "leaving"
  }
}
