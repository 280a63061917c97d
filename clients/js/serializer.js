// Version 2 of the protocol: messages as JSON arrays, or with an ArrayBuffer as payload in binary.
//
// A binary message is its kind (0 push, 1 reply, 2 broadcast) and the sizes of its fields, a byte
// each, then the fields, then the payload. A push from a client has all four fields; one from the
// server has no ref, and a reply has its status in place of the event.

import { CHANNEL_EVENTS, isBuffer } from "./constants.js"

const MAX_FIELD_SIZE = 255 // bytes, since a size is one byte

// What each kind from the server has, in order.
const FIELDS = [
  ["join_ref", "topic", "event"],
  ["join_ref", "ref", "topic", "status"],
  ["topic", "event"],
]

export default {
  KINDS: { push: 0, reply: 1, broadcast: 2 },

  /** Call back with the message as it is sent: text, or an ArrayBuffer. */
  encode(message, callback) {
    const { join_ref, ref, topic, event, payload } = message
    if (isBuffer(payload) || ArrayBuffer.isView(payload)) return callback(encodeBinary(message))
    return callback(JSON.stringify([join_ref, ref, topic, event, payload]))
  },

  /** Call back with the message that came as text or as an ArrayBuffer. */
  decode(raw, callback) {
    if (isBuffer(raw)) return callback(decodeBinary(raw))
    const [join_ref, ref, topic, event, payload] = JSON.parse(raw)
    return callback({ join_ref, ref, topic, event, payload })
  },
}

function encodeBinary(message) {
  const encoder = new TextEncoder()
  const fields = ["join_ref", "ref", "topic", "event"].map((name) => {
    const bytes = encoder.encode(message[name] ?? "")
    if (bytes.length > MAX_FIELD_SIZE) {
      throw new Error(
        `unable to convert ${name} to binary: it has ${bytes.length} bytes, at most ${MAX_FIELD_SIZE} fit`,
      )
    }
    return bytes
  })
  const { payload } = message
  const data = isBuffer(payload)
    ? new Uint8Array(payload)
    : new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength)
  const parts = [[0, ...fields.map((bytes) => bytes.length)], ...fields, data]
  const frame = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let offset = 0
  for (const part of parts) {
    frame.set(part, offset)
    offset += part.length
  }
  return frame.buffer
}

function decodeBinary(buffer) {
  const bytes = new Uint8Array(buffer)
  const names = FIELDS[bytes[0]]
  if (!names) throw new Error(`a binary message of kind ${bytes[0]} came, and only 0 to 2 are known`)
  const decoder = new TextDecoder()
  const found = {}
  let offset = 1 + names.length
  names.forEach((name, index) => {
    const end = offset + bytes[1 + index]
    found[name] = decoder.decode(bytes.subarray(offset, end))
    offset = end
  })
  const { join_ref = null, ref = null, topic, event = CHANNEL_EVENTS.reply, status } = found
  const data = buffer.slice(offset)
  const payload = status === undefined ? data : { status, response: data }
  return { join_ref, ref, topic, event, payload }
}
