// The words and numbers of Phoenix's protocol that more than one module needs.

export const DEFAULT_VSN = "2.0.0"
export const DEFAULT_TIMEOUT = 10_000 // milliseconds until a push is given up
export const CONNECTING = 0 // the states of a WebSocket
export const OPEN = 1
export const CLOSING = 2
export const CLOSED = 3
export const MAX_LONGPOLL_BATCH_SIZE = 100 // lines; servers ignore what is past them
export const WS_CLOSE_NORMAL = 1000
export const AUTH_TOKEN_PREFIX = "base64url.bearer.phx."

// Nothing here needs these; who takes modules of the npm package phoenix one by one finds them.
export const SOCKET_STATES = { connecting: 0, open: 1, closing: 2, closed: 3 }
export const CHANNEL_STATES = {
  closed: "closed",
  errored: "errored",
  joined: "joined",
  joining: "joining",
  leaving: "leaving",
}
export const CHANNEL_EVENTS = {
  close: "phx_close",
  error: "phx_error",
  join: "phx_join",
  reply: "phx_reply",
  leave: "phx_leave",
}
export const TRANSPORTS = { longpoll: "longpoll", websocket: "websocket" }

/** Make a function of a value that is none yet. */
export const closure = (value) => (typeof value === "function" ? value : () => value)

/** Whether a value is an ArrayBuffer, be it one of another window. */
export const isBuffer = (value) => Object.prototype.toString.call(value) === "[object ArrayBuffer]"

/** The bytes of an ArrayBuffer or of a view of one. */
export const bytesOf = (data) =>
  ArrayBuffer.isView(data)
    ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    : new Uint8Array(data)
