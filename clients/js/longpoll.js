// A transport with the interface of a WebSocket, over HTTP.
//
// A poll waits at the server until there are messages. The first one gets a token, which names the
// session from then on. What is sent within one turn of the event loop goes in one POST, and only
// one POST is under way, so that the order is kept. When the session is lost, `onclose` says so;
// the socket then makes a new transport.

import Ajax from "./ajax.js"
import {
  AUTH_TOKEN_PREFIX,
  bytesOf,
  CLOSED,
  CONNECTING,
  MAX_LONGPOLL_BATCH_SIZE,
  OPEN,
} from "./constants.js"

const NDJSON = { "Content-Type": "application/x-ndjson" }

export default class LongPoll {
  constructor(endPoint, protocols) {
    if (protocols?.length === 2 && protocols[1].startsWith(AUTH_TOKEN_PREFIX)) {
      this.authToken = atob(protocols[1].slice(AUTH_TOKEN_PREFIX.length))
    }
    this.token = null
    this.skipHeartbeat = true // each poll is a sign of life
    this.reqs = new Set()
    this.stops = 0
    this.deliveries = new Set()
    this.awaitingBatchAck = false
    this.currentBatch = null
    this.currentBatchTimer = null
    this.batchBuffer = []
    this.onopen = this.onerror = this.onmessage = this.onclose = () => {}
    this.pollEndpoint = this.normalizeEndpoint(endPoint)
    this.readyState = CONNECTING
    setTimeout(() => this.poll(), 0) // once the socket has set its handlers and the timeout
  }

  normalizeEndpoint(endPoint) {
    return endPoint.replace(/^ws(s?):\/\//, "http$1://").replace(/(.*)\/websocket/, "$1/longpoll")
  }

  endpointURL() {
    return this.pollEndpoint
  }

  isActive() {
    return this.readyState === OPEN || this.readyState === CONNECTING
  }

  poll() {
    if (!this.isActive()) return
    const headers = { Accept: "application/json" }
    if (this.authToken) headers["X-Phoenix-AuthToken"] = this.authToken
    const polled = (answer) => this.polled(answer)
    this.ajax("GET", headers, null, () => this.ontimeout(), polled)
  }

  polled(answer) {
    const status = answer ? answer.status : 0
    if (status === 410 && this.token !== null) {
      this.onerror(410)
      return this.closeAndRetry(3410, "session_gone", false)
    }
    if (answer) this.token = answer.token
    switch (status) {
      case 200:
        for (const message of answer.messages) this.deliver(message)
        return this.poll()
      case 204:
        return this.poll()
      case 410:
        this.readyState = OPEN
        this.onopen({})
        return this.poll()
      case 403:
        this.onerror(403)
        return this.close(1008, "forbidden", false)
      case 0:
      case 500:
        this.onerror(500)
        return this.closeAndRetry(1011, "internal server error", false)
      default:
        throw new Error(`unhandled poll status ${status}`)
    }
  }

  /** Deliver in a task of its own, as a WebSocket does: promises settle between two messages. */
  deliver(data) {
    const timer = setTimeout(() => {
      this.deliveries.delete(timer)
      this.onmessage({ data })
    }, 0)
    this.deliveries.add(timer)
  }

  send(body) {
    const line = typeof body === "string" ? body : toBase64(body)
    if (this.currentBatch) {
      this.currentBatch.push(line)
    } else if (this.awaitingBatchAck) {
      this.batchBuffer.push(line)
    } else {
      this.currentBatch = [line]
      this.currentBatchTimer = setTimeout(() => {
        const batch = this.currentBatch
        this.currentBatch = null
        this.batchSend(batch)
      }, 0)
    }
  }

  batchSend(messages) {
    this.awaitingBatchAck = true
    const body = messages.slice(0, MAX_LONGPOLL_BATCH_SIZE).join("\n")
    const rest = messages.slice(MAX_LONGPOLL_BATCH_SIZE)
    const posted = (answer) => {
      if (answer?.status !== 200) {
        this.awaitingBatchAck = false
        this.onerror(answer?.status)
        return this.closeAndRetry(1011, "internal server error", false)
      }
      if (rest.length) return this.batchSend(rest)
      const buffered = this.batchBuffer
      this.batchBuffer = []
      if (buffered.length) this.batchSend(buffered)
      else this.awaitingBatchAck = false
    }
    this.ajax("POST", NDJSON, body, () => this.ontimeout(), posted)
  }

  /** Send what is not sent yet while the page closes; nobody waits for an answer. */
  goodbye() {
    if (!this.token || !globalThis.fetch) return
    const lines = [...(this.currentBatch || []), ...this.batchBuffer]
    for (let start = 0; start < lines.length; start += MAX_LONGPOLL_BATCH_SIZE) {
      const body = lines.slice(start, start + MAX_LONGPOLL_BATCH_SIZE).join("\n")
      const request = { method: "POST", headers: this.headers(NDJSON), body, keepalive: true }
      globalThis.fetch(this.endpointURL(), request).catch(() => {})
    }
  }

  ontimeout() {
    this.onerror("timeout")
    this.closeAndRetry(1005, "timeout", false)
  }

  /** Close so that the socket connects again; who calls `close` meanwhile ends it for good. */
  closeAndRetry(code, reason, wasClean) {
    if (!this.isActive()) return
    const stops = this.stops + 1
    this.close(code, reason, wasClean)
    if (this.stops === stops) this.readyState = CONNECTING
  }

  close(code = 1000, reason = undefined, wasClean = true) {
    this.stop()
    this.readyState = CLOSED
    const event = { code, reason, wasClean }
    this.onclose(typeof CloseEvent === "undefined" ? event : new CloseEvent("close", event))
  }

  stop() {
    this.stops++ // so that no request that is under way calls back, also when it is aborted
    for (const request of this.reqs) request.abort()
    this.reqs.clear()
    for (const timer of this.deliveries) clearTimeout(timer)
    this.deliveries.clear()
    clearTimeout(this.currentBatchTimer)
    this.currentBatchTimer = null
    this.currentBatch = null
    this.batchBuffer = []
    this.awaitingBatchAck = false
  }

  headers(headers) {
    return this.token ? { ...headers, "X-Phoenix-Longpoll-Token": this.token } : headers
  }

  ajax(method, headers, body, onCallerTimeout, callback) {
    const { stops } = this
    let request
    let isDone = false
    const once = (answered) => {
      if (isDone || stops !== this.stops) return
      isDone = true
      this.reqs.delete(request)
      answered()
    }
    request = Ajax.request(
      method,
      this.endpointURL(),
      this.headers(headers),
      body,
      this.timeout,
      () => once(onCallerTimeout),
      (answer) => once(() => this.isActive() && callback(answer)),
    )
    if (request && !isDone && stops === this.stops) this.reqs.add(request)
  }
}

function toBase64(body) {
  let text = ""
  for (const byte of bytesOf(body)) text += String.fromCharCode(byte)
  return btoa(text)
}
