import assert from "node:assert/strict"
import { test } from "node:test"
import { Ajax, Serializer } from "./client.js"
import { noted } from "./fakes.js"

const text = new TextDecoder()
const bytes = (...parts) =>
  Uint8Array.from(
    parts.flatMap((part) =>
      typeof part === "string" ? [...new TextEncoder().encode(part)] : part,
    ),
  ).buffer
const encode = (message) => Serializer.encode(message, (encoded) => encoded)
const decode = (raw) => Serializer.decode(raw, (message) => message)
const MESSAGE = { join_ref: "12", ref: "123", topic: "topic", event: "event" }

test("JSON messages are arrays of five", () => {
  assert.equal(encode({ ...MESSAGE, payload: { a: 1 } }), '["12","123","topic","event",{"a":1}]')
  assert.equal(encode({ topic: "t", event: "e", payload: {} }), '[null,null,"t","e",{}]')
  assert.deepEqual(decode('["12","123","topic","event",{"a":1}]'), {
    ...MESSAGE,
    payload: { a: 1 },
  })
})

test("a payload that is null is sent as such", () => {
  assert.equal(encode({ topic: "t", event: "e", payload: null }), '[null,null,"t","e",null]')
})

test("a binary push has the sizes of its four fields, the fields, and the payload", () => {
  const expected = bytes([0, 2, 3, 5, 5], "12", "123", "topic", "event", [0x65, 0x66, 0x67])

  assert.deepEqual(encode({ ...MESSAGE, payload: bytes([0x65, 0x66, 0x67]) }), expected)
})

test("views are payloads too", () => {
  const view = new Uint8Array([1, 2, 3, 4]).subarray(1, 3)
  const message = { topic: "t", event: "e", payload: view }

  assert.deepEqual(encode(message), bytes([0, 0, 0, 1, 1], "te", [2, 3]))
})

test("sizes are those of UTF-8", () => {
  const frame = new Uint8Array(encode({ ...MESSAGE, topic: "tøpic", payload: bytes() }))

  assert.equal(frame[3], 6)
})

test("a field of 255 bytes fits, and one of 256 is refused by name", () => {
  encode({ ...MESSAGE, topic: "t".repeat(255), payload: bytes() })

  for (const name of ["join_ref", "ref", "topic", "event"]) {
    const message = { ...MESSAGE, [name]: "é".repeat(128), payload: bytes() }
    assert.throws(
      () => encode(message),
      new RegExp(`unable to convert ${name} to binary.*256 bytes`),
    )
  }
})

test("a binary push from the server has no ref", () => {
  const message = decode(bytes([0, 2, 5, 5], "12", "topic", "event", "abc"))

  assert.deepEqual(
    { ...message, payload: text.decode(message.payload) },
    {
      join_ref: "12",
      ref: null,
      topic: "topic",
      event: "event",
      payload: "abc",
    },
  )
  assert.ok(message.payload instanceof ArrayBuffer)
  assert.equal(decode(bytes([0, 0, 1, 1], "te")).join_ref, "")
})

test("a binary reply has a status, and the data as response", () => {
  const message = decode(bytes([1, 2, 3, 5, 2], "12", "123", "topic", "ok", "abc"))

  assert.equal(message.event, "phx_reply")
  assert.deepEqual([message.join_ref, message.ref, message.topic], ["12", "123", "topic"])
  assert.equal(message.payload.status, "ok")
  assert.equal(text.decode(message.payload.response), "abc")
})

test("a binary broadcast is of no join, and answers nothing", () => {
  const message = decode(bytes([2, 5, 5], "topic", "event", "abc"))

  assert.deepEqual(
    { ...message, payload: text.decode(message.payload) },
    {
      join_ref: null,
      ref: null,
      topic: "topic",
      event: "event",
      payload: "abc",
    },
  )
})

test("a binary message of another kind is refused", () => {
  assert.throws(() => decode(bytes([7, 0, 0])), /kind of binary message: 7/)
})

// HTTP.

test("params are encoded, and nested ones in brackets", () => {
  assert.equal(
    Ajax.serialize({ a: "1 2", b: { c: [1, { d: 2 }] } }),
    "a=1%202&b%5Bc%5D%5B0%5D=1&b%5Bc%5D%5B1%5D%5Bd%5D=2",
  )
  assert.equal(Ajax.serialize({ a: null, b: 1 }), "&b=1")
  assert.equal(Ajax.appendParams("/a", {}), "/a")
  assert.equal(Ajax.appendParams("/a", { b: 1 }), "/a?b=1")
  assert.equal(Ajax.appendParams("/a?b=1", { c: 2 }), "/a?b=1&c=2")
})

test("what comes is parsed, and what is no JSON is null and printed", () => {
  const { log } = console
  console.log = noted()
  assert.deepEqual(
    [Ajax.parseJSON('{"a":1}'), Ajax.parseJSON(""), Ajax.parseJSON("<"), Ajax.parseJSON(undefined)],
    [{ a: 1 }, null, null, null],
  )
  assert.equal(console.log.calls.length, 1)
  console.log = log
})

/** Replace globals while something runs. */
async function having(globals, run) {
  const before = Object.fromEntries(Object.keys(globals).map((name) => [name, globalThis[name]]))
  Object.assign(globalThis, globals)
  try {
    await run()
  } finally {
    Object.assign(globalThis, before)
  }
}

test("fetch is used where there is no XMLHttpRequest", () => {
  const asked = noted(Promise.resolve({ text: async () => '{"status":200}' }))
  return having({ XMLHttpRequest: undefined, fetch: asked }, async () => {
    const answer = await new Promise((resolve) => {
      Ajax.request("POST", "/x", { A: "1" }, "body", 0, null, resolve)
    })
    const [[url, { method, headers, body }]] = asked.calls
    assert.deepEqual([url, method, headers, body], ["/x", "POST", { A: "1" }, "body"])
    assert.deepEqual(answer, { status: 200 })
  })
})

test("a fetch that fails is null, and one that is aborted has timed out", () => {
  const failing = (name) => () => Promise.reject(Object.assign(new Error(), { name }))
  return having({ XMLHttpRequest: undefined, fetch: failing("TypeError") }, async () => {
    assert.equal(
      await new Promise((resolve) => Ajax.request("GET", "/", {}, null, 0, null, resolve)),
      null,
    )
    globalThis.fetch = failing("AbortError")
    assert.equal(
      await new Promise((resolve) =>
        Ajax.request("GET", "/", {}, null, 0, () => resolve("timeout"), resolve),
      ),
      "timeout",
    )
  })
})

test("without any means there is an error", () =>
  having({ XMLHttpRequest: undefined, fetch: undefined }, () => {
    assert.throws(
      () => Ajax.request("GET", "/", {}, null, 0),
      /No suitable XMLHttpRequest implementation found/,
    )
  }))
