// Version 2 of the protocol: messages as JSON arrays, or with an ArrayBuffer as payload in binary.
//
// A binary message is its kind (0 push, 1 reply, 2 broadcast) and the sizes of its fields, a byte
// each, then the fields, then the payload. A push from a client has all four fields; one from the
// server has no ref, and a reply has its status in place of the event.

import { bytesOf, isBuffer } from "./constants.js"

const MAX_FIELD_SIZE = 255 // bytes, since a size is one byte

// What each kind from the server has, in order.
const FIELDS = [
  ["join_ref", "topic", "event"],
  ["join_ref", "ref", "topic", "status"],
  ["topic", "event"],
]

export default {
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

function encodeBinary({ payload, ...message }) {
  const encoder = new TextEncoder()
  const sizes = [0]
  const header = ["join_ref", "ref", "topic", "event"].flatMap((name) => {
    const bytes = encoder.encode(message[name] ?? "")
    if (bytes.length > MAX_FIELD_SIZE) {
      throw new Error(`unable to convert ${name} to binary: ${bytes.length} bytes, at most 255 fit`)
    }
    sizes.push(bytes.length)
    return [...bytes]
  })
  const data = bytesOf(payload)
  const frame = new Uint8Array(sizes.length + header.length + data.length)
  frame.set(sizes.concat(header))
  frame.set(data, sizes.length + header.length)
  return frame.buffer
}

function decodeBinary(buffer) {
  const bytes = new Uint8Array(buffer)
  const names = FIELDS[bytes[0]]
  if (!names) throw new Error(`unknown kind of binary message: ${bytes[0]}`)
  let offset = 1 + names.length
  const message = { join_ref: null, ref: null, event: "phx_reply" }
  names.forEach((name, index) => {
    const field = bytes.subarray(offset, (offset += bytes[1 + index]))
    message[name] = new TextDecoder().decode(field)
  })
  const { status, ...rest } = message
  const data = buffer.slice(offset)
  return { ...rest, payload: names.includes("status") ? { status, response: data } : data }
}
