/**
 * Why a push that was awaited has failed.
 *
 * `status` is the server's, or "timeout", or "closed" if the channel ended first.
 */
export class PushError extends Error {
  constructor(push, status, response) {
    const {
      event,
      channel: { topic },
    } = push
    super(`${event} to ${topic}: ${response?.reason ?? status}`)
    Object.assign(this, { name: "PushError", topic, event, status, response })
  }
}

/**
 * One message to the server that may be answered: `receive` calls back, `await` waits.
 *
 * A push that waits for the join is started, so that it times out; it is sent with a new ref.
 */
export default class Push {
  constructor(channel, event, payload, timeout) {
    this.channel = channel
    this.event = event
    this.payload = payload || (() => ({}))
    this.receivedResp = null
    this.timeout = timeout
    this.timeoutTimer = null
    this.recHooks = []
    this.sent = false
    this.ref = null
    this.refEvent = null
  }

  /** Send again, as what nobody has answered yet. */
  resend(timeout) {
    this.timeout = timeout
    this.reset()
    this.send()
  }

  /** Send, unless it has timed out already. */
  send() {
    if (this.hasReceived("timeout")) return
    this.startTimeout()
    this.sent = true
    this.channel.socket.push({
      topic: this.channel.topic,
      event: this.event,
      payload: this.payload(),
      ref: this.ref,
      join_ref: this.channel.joinRef(),
    })
  }

  /**
   * Call back when the answer has this status; at once if it came already.
   *
   * A join calls its callbacks again at every rejoin.
   */
  receive(status, callback) {
    if (this.hasReceived(status)) callback(this.receivedResp.response)
    this.recHooks.push({ status, callback })
    return this
  }

  /** The response of an "ok"; any other status, and the end of the channel, is a PushError. */
  then(onOk, onError) {
    this.promise ??= this.settled()
    return this.promise.then(onOk, onError)
  }

  catch(onError) {
    return this.then(undefined, onError)
  }

  finally(callback) {
    return this.then().finally(callback)
  }

  settled() {
    return new Promise((resolve, reject) => {
      const { channel } = this
      const close = () => this.settle({ status: "closed" })
      const ref = channel.onClose(close)
      this.settle = ({ status, response }) => {
        channel.off("phx_close", ref)
        if (status === "ok") resolve(response)
        else reject(new PushError(this, status, response))
      }
      if (this.receivedResp) this.settle(this.receivedResp)
      else if (channel.isClosed()) close()
    })
  }

  reset() {
    this.cancelRefEvent()
    this.cancelTimeout()
    this.ref = null
    this.refEvent = null
    this.receivedResp = null
    this.sent = false
  }

  matchReceive({ status, response }) {
    const hooks = this.recHooks.filter((hook) => hook.status === status)
    for (const { callback } of hooks) callback(response)
  }

  cancelRefEvent() {
    if (this.refEvent) this.channel.off(this.refEvent)
  }

  cancelTimeout() {
    clearTimeout(this.timeoutTimer)
    this.timeoutTimer = null
  }

  startTimeout() {
    this.cancelTimeout()
    this.cancelRefEvent()
    this.ref = this.channel.socket.makeRef()
    this.refEvent = this.channel.replyEventName(this.ref)
    this.channel.on(this.refEvent, (reply) => {
      this.cancelRefEvent()
      this.cancelTimeout()
      this.receivedResp = reply
      this.matchReceive(reply)
      this.settle?.(reply)
    })
    this.timeoutTimer = setTimeout(() => this.trigger("timeout", {}), this.timeout)
  }

  hasReceived(status) {
    return Boolean(this.receivedResp) && this.receivedResp.status === status
  }

  /** Act as if the server had answered. */
  trigger(status, response) {
    this.channel.trigger(this.refEvent, { status, response })
  }
}
