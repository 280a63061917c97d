// Our presence beside that of the npm package phoenix: any history leaves the same list in both, and
// is told in the same way. Where ours is better on purpose, the other one is helped.

import assert from "node:assert/strict"
import { test } from "node:test"
import * as phoenix from "../../node_modules/phoenix/priv/static/phoenix.mjs"
import * as ours from "./client.js"
import { setLocation } from "./fakes.js"

/** Numbers that are the same in every run. */
function numbers(seed) {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
}

/** Keys with metas, few enough to meet again; no ref is twice in one payload. */
function anyPresences(random) {
  const presences = {}
  const refs = [..."123456789"].filter(() => random(3) === 0)
  for (const phx_ref of refs) {
    const key = ["bob", "alice", "7", "10", "constructor"][random(5)]
    if (!Object.hasOwn(presences, key)) presences[key] = { metas: [], name: "xy"[random(2)] }
    presences[key].metas.push({ phx_ref, n: random(3) })
  }
  return presences
}

function anyHistory(random) {
  return Array.from({ length: 1 + random(12) }, () => {
    const kind = ["join", "state", "state", "diff", "diff", "diff"][random(6)]
    if (kind !== "diff") return [kind, anyPresences(random)]
    return [kind, { joins: anyPresences(random), leaves: anyPresences(random) }]
  })
}

const copy = (value) => JSON.parse(JSON.stringify(value ?? null))

function play({ Presence }, history) {
  const callbacks = {}
  let ref = 1
  const channel = {
    on: (event, callback) => (callbacks[event] = callback),
    joinRef: () => String(ref),
  }
  const presence = new Presence(channel)
  const calls = []
  presence.onJoin((key, current, joined) => calls.push(["join", key, copy(current), copy(joined)]))
  presence.onLeave((key, current, left) => calls.push(["leave", key, copy(current), copy(left)]))
  presence.onSync(() => calls.push("sync"))
  return history.map(([kind, payload]) => {
    if (kind === "join") {
      ref++
      presence.pendingDiffs = [] // phoenix keeps those of the join before
    } else callbacks[`presence_${kind}`](copy(payload))
    return copy([calls.splice(0), Object.entries(presence.state), presence.pendingDiffs])
  })
}

function playByHand({ Presence }, history) {
  const calls = []
  const onJoin = (key, current, joined) => calls.push(["join", key, copy(current), copy(joined)])
  const onLeave = (key, current, left) => calls.push(["leave", key, copy(current), copy(left)])
  let state = {}
  return history.map(([kind, payload]) => {
    if (kind === "join") return null
    const sync = kind === "state" ? Presence.syncState : Presence.syncDiff
    state = sync.call(Presence, state, copy(payload), onJoin, onLeave)
    return copy([calls.splice(0), Object.entries(state), Presence.list(state)])
  })
}

for (const [name, run] of [
  ["an object", play],
  ["lists that are kept by hand", playByHand],
]) {
  test(`any history is as in phoenix, with ${name}`, () => {
    const random = numbers(7)
    for (let number = 0; number < 500; number++) {
      const history = anyHistory(random)
      assert.deepEqual(
        run(ours, history),
        run(phoenix, history),
        `history ${number}: ${JSON.stringify(history)}`,
      )
    }
  })
}

test("binary messages are the same bytes, and are read in the same way", () => {
  const message = {
    join_ref: "1",
    ref: "22",
    topic: "tøpic",
    event: "e",
    payload: new Uint8Array([1, 2]).buffer,
  }
  const encode = ({ Serializer }) =>
    Serializer.encode(message, (encoded) => [...new Uint8Array(encoded)].join())
  assert.equal(encode(ours), encode(phoenix))

  for (const hex of ["0001010131746564", "01010101026132746f6b64", "02010174656400"]) {
    const raw = Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16)).buffer
    const decode = ({ Serializer }) => Serializer.decode(raw, (decoded) => decoded)
    assert.deepEqual(decode(ours), decode(phoenix))
  }
})

test("everything that phoenix exports is exported, with its methods", () => {
  for (const [name, theirs] of Object.entries(phoenix)) {
    assert.ok(ours[name], name)
    for (const method of ["constructor", "list", "syncState", "syncDiff"]) {
      if (Object.hasOwn(theirs, method))
        assert.equal(typeof ours[name][method], "function", `${name}.${method}`)
    }
  }
  const publics = {
    Socket:
      "connect disconnect replaceTransport protocol endPointURL onOpen onClose onError onMessage off channel remove push makeRef ping connectionState isConnected log hasLogger getLongPollTransport leaveOpenTopic connectWithFallback transportConnect getSession storeSession transportName heartbeatTimeout resetHeartbeat clearHeartbeats sendHeartbeat teardown onConnOpen onConnClose onConnError onConnMessage triggerChanError flushSendBuffer",
    Channel:
      "join leave push on off onClose onError onMessage canPush joinRef isMember rejoin trigger replyEventName isClosed isErrored isJoined isJoining isLeaving",
    LongPoll:
      "normalizeEndpoint endpointURL closeAndRetry ontimeout isActive poll send batchSend close ajax",
    Presence: "onJoin onLeave onSync list inPendingSyncState",
  }
  for (const [name, methods] of Object.entries(publics)) {
    for (const method of methods.split(" ")) {
      assert.equal(
        typeof phoenix[name].prototype[method],
        "function",
        `phoenix has no ${name}.${method}`,
      )
      assert.equal(typeof ours[name].prototype[method], "function", `${name}.${method}`)
    }
  }
})

test("the addresses of sockets are the same", () => {
  setLocation({ protocol: "https:", host: "example.com" })
  const params = { a: "1 2", b: { c: [1, { d: null }] }, e: undefined }
  for (const endPoint of ["/socket", "//other.com/s", "ws://x/s", "/s?q=1"]) {
    for (const options of [{}, { params }, { params: () => params, vsn: "1.0.0" }]) {
      const address = ({ Socket, LongPoll }) =>
        new Socket(endPoint, { transport: LongPoll, ...options }).endPointURL()
      assert.equal(address(ours), address(phoenix))
    }
  }
  delete globalThis.location
})

test("modules are those of the package, with the same default exports and constants", async () => {
  const names = ["ajax", "channel", "longpoll", "presence", "push", "serializer", "socket", "timer"]
  for (const name of names) {
    const { default: exported } = await ours.module(`${name}.js`)
    assert.ok(exported, name)
  }
  const { SOCKET_STATES, CHANNEL_STATES, CHANNEL_EVENTS, TRANSPORTS } =
    await ours.module("constants.js")
  assert.deepEqual(Object.values(SOCKET_STATES), [0, 1, 2, 3])
  assert.deepEqual(Object.keys(CHANNEL_STATES), Object.values(CHANNEL_STATES))
  const events = ["phx_close", "phx_error", "phx_join", "phx_reply", "phx_leave"]
  assert.deepEqual(Object.values(CHANNEL_EVENTS), events)
  assert.deepEqual(Object.values(TRANSPORTS), ["longpoll", "websocket"])
})
