import assert from "node:assert/strict"
import { test } from "node:test"
import { lists, Presence, Socket } from "./client.js"
import { FakeWebSocket, fakeWorld, joined, noted, opened, settled } from "./fakes.js"

const world = fakeWorld()

/** An entry with metas of these refs. */
const entry = (...refs) => ({ metas: refs.map((phx_ref) => ({ phx_ref })) })
const refs = (presence) => presence && presence.metas.map(({ phx_ref }) => phx_ref)
const keys = (presence) =>
  presence.list((key, { metas }) => [key, ...metas.map(({ phx_ref }) => phx_ref)])
const plain = (value) => JSON.parse(JSON.stringify(value))

/** A channel as far as a presence needs one. */
class FakeChannel {
  constructor() {
    this.ref = 1
    this.callbacks = {}
  }

  on(event, callback) {
    this.callbacks[event] = callback
  }

  onClose() {}

  joinRef() {
    return String(this.ref)
  }

  rejoins() {
    this.ref++
  }

  tells(event, payload) {
    this.callbacks[event](payload)
  }

  state(state) {
    this.tells("presence_state", state)
  }

  diff(joins, leaves = {}) {
    this.tells("presence_diff", { joins, leaves })
  }
}

/** A presence that notes what it calls back with. */
function fresh() {
  const channel = new FakeChannel()
  const presence = new Presence(channel)
  const calls = []
  presence.onJoin((key, current, joined) => calls.push(["join", key, refs(current), refs(joined)]))
  presence.onLeave((key, current, left) => calls.push(["leave", key, refs(current), refs(left)]))
  presence.onSync(() => calls.push("sync"))
  return { channel, presence, calls }
}

test("a new presence is empty, and waits for its list", () => {
  const { presence } = fresh()

  assert.equal(Object.getPrototypeOf(presence.state), null)
  assert.deepEqual(presence.pendingDiffs, [])
  assert.equal(presence.joinRef, null)
  assert.equal(presence.inPendingSyncState(), true)
  assert.deepEqual(presence.list(), [])
})

test("the list joins everybody, and then it is synced once", () => {
  const { channel, presence, calls } = fresh()
  channel.state({ u1: entry("1"), u2: entry("2", "2b") })

  assert.deepEqual(calls, [
    ["join", "u1", undefined, ["1"]],
    ["join", "u2", undefined, ["2", "2b"]],
    "sync",
  ])
  assert.equal(presence.joinRef, "1")
  assert.equal(presence.inPendingSyncState(), false)
})

test("a diff changes the list, and then it is synced once", () => {
  const { channel, presence, calls } = fresh()
  channel.state({ u1: entry("1"), u2: entry("2"), u3: entry("3") })
  calls.length = 0
  channel.diff({ u1: entry("1.2"), u4: entry("4") }, { u2: entry("2") })

  assert.deepEqual(keys(presence), [
    ["u1", "1", "1.2"],
    ["u3", "3"],
    ["u4", "4"],
  ])
  assert.deepEqual(calls, [
    ["join", "u1", ["1"], ["1.2"]],
    ["join", "u4", undefined, ["4"]],
    ["leave", "u2", [], ["2"]],
    "sync",
  ])
})

test("diffs before the list wait, and are applied after it, with one sync", () => {
  const { channel, presence, calls } = fresh()
  channel.diff({}, { u2: entry("2") })
  channel.diff({ u3: entry("3") })
  assert.equal(presence.pendingDiffs.length, 2)
  assert.deepEqual(calls, [])
  channel.state({ u1: entry("1"), u2: entry("2") })

  assert.deepEqual(calls, [
    ["join", "u1", undefined, ["1"]],
    ["join", "u2", undefined, ["2"]],
    ["leave", "u2", [], ["2"]],
    ["join", "u3", undefined, ["3"]],
    "sync",
  ])
  assert.deepEqual(keys(presence), [
    ["u1", "1"],
    ["u3", "3"],
  ])
  assert.deepEqual(presence.pendingDiffs, [])
})

test("after a rejoin the old list stays until the new one, which tells the differences only", () => {
  const { channel, presence, calls } = fresh()
  channel.state({ u1: entry("1"), u2: entry("2") })
  channel.rejoins()
  calls.length = 0
  assert.equal(presence.inPendingSyncState(), true)
  channel.diff({ u4: entry("4") })
  assert.deepEqual(keys(presence), [
    ["u1", "1"],
    ["u2", "2"],
  ])
  channel.state({ u1: entry("1"), u3: entry("3") })

  assert.deepEqual(calls, [
    ["join", "u3", undefined, ["3"]],
    ["leave", "u2", [], ["2"]],
    ["join", "u4", undefined, ["4"]],
    "sync",
  ])
  assert.deepEqual(keys(presence), [
    ["u1", "1"],
    ["u3", "3"],
    ["u4", "4"],
  ])
})

test("diffs that waited before a rejoin are not applied to the new list", () => {
  const { channel, presence } = fresh()
  channel.diff({ ghost: entry("1") })
  channel.rejoins()
  channel.state({ u1: entry("2") })
  assert.deepEqual(keys(presence), [["u1", "2"]])

  channel.rejoins()
  channel.diff({ ghost: entry("3") })
  channel.rejoins()
  channel.diff({ u2: entry("4") })
  assert.equal(presence.pendingDiffs.length, 1)
  channel.state({ u1: entry("2") })
  assert.deepEqual(keys(presence), [
    ["u1", "2"],
    ["u2", "4"],
  ])
})

test("diffs that come before a join is answered are of the one before, and dropped", () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  const presence = new Presence(channel)
  conn.receives(null, null, "room:1", "presence_state", { u1: entry("1") })
  channel.trigger("phx_error", {})
  world.clock.advance(1_000)
  assert.equal(channel.state, "joining")
  conn.receives(null, null, "room:1", "presence_diff", { joins: { ghost: entry("2") }, leaves: {} })
  conn.replies()
  conn.receives(null, null, "room:1", "presence_diff", { joins: { u2: entry("3") }, leaves: {} })
  conn.receives(null, null, "room:1", "presence_state", { u1: entry("4") })

  assert.deepEqual(keys(presence), [
    ["u1", "4"],
    ["u2", "3"],
  ])
})

test("the leave of an unknown key is silent", () => {
  const { channel, presence, calls } = fresh()
  channel.state({ u1: entry("1") })
  calls.length = 0
  channel.diff({}, { u9: entry("9") })

  assert.deepEqual(calls, ["sync"])
  assert.deepEqual(keys(presence), [["u1", "1"]])
})

test("the leave of an unknown ref is told, and changes nothing", () => {
  const { channel, presence, calls } = fresh()
  channel.state({ u1: entry("1") })
  calls.length = 0
  channel.diff({}, { u1: entry("9") })

  assert.deepEqual(calls, [["leave", "u1", ["1"], ["9"]], "sync"])
  assert.deepEqual(keys(presence), [["u1", "1"]])
})

test("a join that is known already doubles nothing, moves to the end, and is told", () => {
  const { channel, presence, calls } = fresh()
  channel.state({ u1: entry("1", "2") })
  calls.length = 0
  channel.diff({ u1: { metas: [{ phx_ref: "1", new: true }] } })

  assert.deepEqual(keys(presence), [["u1", "2", "1"]])
  assert.equal(presence.state.u1.metas[1].new, true)
  assert.deepEqual(calls, [["join", "u1", ["1", "2"], ["1"]], "sync"])
})

test("an update is a join and a leave, between which the key is there", () => {
  const { channel, presence } = fresh()
  channel.state({ u1: entry("1") })
  const seen = []
  presence.onJoin((key) => seen.push(["join", refs(presence.state[key])]))
  presence.onLeave((key) => seen.push(["leave", refs(presence.state[key])]))
  channel.diff({ u1: entry("2") }, { u1: entry("1") })

  assert.deepEqual(seen, [
    ["join", ["1", "2"]],
    ["leave", ["2"]],
  ])
})

test("what an entry has beside its metas is that of the join", () => {
  const { channel, presence } = fresh()
  channel.state({ u1: { ...entry("1"), user: "old" } })
  channel.diff({ u1: { ...entry("2"), user: "new" } })
  assert.equal(presence.state.u1.user, "new")
  channel.diff({}, { u1: { ...entry("2"), user: "older" } })
  assert.equal(presence.state.u1.user, "new")
})

test("a list refreshes what is new in it, and keeps the metas that are known", () => {
  const { channel, presence } = fresh()
  channel.state({ u1: { metas: [{ phx_ref: "1", n: 1 }] }, u2: { ...entry("2"), user: "old" } })
  channel.rejoins()
  channel.state({
    u1: { metas: [{ phx_ref: "0" }, { phx_ref: "1", n: 2 }] },
    u2: { ...entry("2"), user: "new" },
  })

  assert.deepEqual(plain(presence.state), {
    u1: { metas: [{ phx_ref: "1", n: 1 }, { phx_ref: "0" }] },
    u2: { metas: [{ phx_ref: "2" }], user: "old" },
  })
})

test("callbacks are those of the moment, the last one each", () => {
  const { channel, presence, calls } = fresh()
  const joins = noted()
  presence.onJoin(joins)
  channel.state({ u1: entry("1") })

  assert.equal(joins.calls.length, 1)
  assert.deepEqual(calls, ["sync"])
})

test("events may have other names", () => {
  const channel = new FakeChannel()
  const presence = new Presence(channel, { events: { state: "here", diff: "changed" } })
  channel.tells("here", { u1: entry("1") })
  channel.tells("changed", { joins: { u2: entry("2") }, leaves: {} })

  assert.deepEqual(keys(presence), [
    ["u1", "1"],
    ["u2", "2"],
  ])
  assert.equal(channel.callbacks.presence_state, undefined)
})

test("any text is a key, also what objects have by nature", () => {
  const { channel, presence, calls } = fresh()
  const names = ["__proto__", "constructor", "hasOwnProperty", "toString", "then"]
  const json = (ref) =>
    JSON.parse(`{${names.map((name) => `"${name}": {"metas": [{"phx_ref": "${ref}"}]}`).join()}}`)
  channel.diff({}, json("0"))
  channel.state(json("1"))
  channel.diff(json("2"), json("1"))
  assert.deepEqual(
    keys(presence),
    names.map((name) => [name, "2"]),
  )
  assert.equal(
    calls.filter(([kind, , current]) => kind === "join" && current === undefined).length,
    names.length,
  )
  assert.equal({}.metas, undefined)
  channel.rejoins()
  channel.state({})
  assert.deepEqual(keys(presence), [])

  const state = Presence.syncState({}, json("1"))
  assert.deepEqual(
    Object.keys(Presence.syncDiff(state, { joins: json("2"), leaves: json("1") })),
    names,
  )
})

test("the list is in the order of the keys of an object", () => {
  const { channel, presence } = fresh()
  channel.state({ b: entry("1"), 10: entry("2"), a: entry("3"), 9: entry("4") })

  assert.deepEqual(
    presence.list((key) => key),
    ["9", "10", "b", "a"],
  )
  assert.deepEqual(plain(presence.list()), [entry("4"), entry("2"), entry("1"), entry("3")])
})

// The functions for lists that are kept by hand.

test("syncState leaves its argument as it is, and returns an object without prototype", () => {
  const ours = Object.assign(Object.create(null), { u1: entry("1"), u2: entry("2") })
  for (const before of [ours, { ...ours }]) {
    const copy = plain(before)
    const after = Presence.syncState(before, { u1: entry("1", "1b"), u3: entry("3") })
    Presence.syncDiff(after, {
      joins: { u1: entry("1c") },
      leaves: { u1: entry("1"), u3: entry("3") },
    })

    assert.deepEqual(plain(before), copy)
    assert.equal(Object.getPrototypeOf(after), null)
    assert.deepEqual(plain(after), { u1: entry("1b", "1c") })
  }
})

test("syncState tells whole entries, and of known ones what is new and gone", () => {
  const calls = []
  const onJoin = (key, current, joined) => calls.push(["join", key, refs(current), refs(joined)])
  const onLeave = (key, current, left) => calls.push(["leave", key, refs(current), refs(left)])
  const state = { u1: entry("1"), u2: entry("2"), u3: entry("3") }
  Presence.syncState(state, { u1: entry("1"), u3: entry("3b"), u4: entry("4") }, onJoin, onLeave)

  assert.deepEqual(calls, [
    ["join", "u3", ["3"], ["3b"]],
    ["join", "u4", undefined, ["4"]],
    ["leave", "u2", [], ["2"]],
    ["leave", "u3", ["3b"], ["3"]],
  ])
})

test("syncDiff changes a state without prototype, and copies another", () => {
  const diff = { joins: { u2: entry("2") }, leaves: {} }
  const own = { u1: entry("1") }
  const copy = Presence.syncDiff(own, diff)
  assert.deepEqual(Object.keys(own), ["u1"])
  assert.equal(Object.getPrototypeOf(copy), null)
  assert.equal(Presence.syncDiff(copy, { joins: { u3: entry("3") }, leaves: {} }), copy)
  assert.deepEqual(Object.keys(copy), ["u1", "u2", "u3"])
})

test("syncDiff keeps nothing of the diff that it is given", () => {
  const diff = { joins: { u1: entry("1") }, leaves: {} }
  const state = Presence.syncDiff({}, diff)
  diff.joins.u1.metas[0].changed = true

  assert.equal(state.u1.metas[0].changed, undefined)
})

test("callbacks and a chooser may be missing", () => {
  const state = Presence.syncState({}, { u1: entry("1") })
  Presence.syncDiff(state, { joins: {}, leaves: { u1: entry("1") } })

  assert.deepEqual(Presence.list(state), [])
  assert.deepEqual(Presence.list({ u1: { metas: [] } }), [{ metas: [] }])
})

test("an entry that somebody holds is never changed", () => {
  const { channel, presence } = fresh()
  channel.state({ u1: entry("1", "2") })
  const held = presence.state.u1
  channel.diff({ u1: entry("3") }, { u1: entry("1") })

  assert.deepEqual(refs(held), ["1", "2"])
  assert.deepEqual(refs(presence.state.u1), ["2", "3"])
})

test("many metas of one key are told apart as few are", () => {
  const { channel, presence } = fresh()
  const many = Array.from({ length: 100 }, (_, n) => `r${n}`)
  channel.state({ u1: entry(...many) })
  channel.diff({ u1: entry(...many.slice(0, 50)) }, { u1: entry(...many.slice(40)) })

  assert.deepEqual(keys(presence), [["u1", ...many.slice(0, 40)]])
})

// Counts.

test("counts are of keys and of presences, through everything", () => {
  const { channel, presence } = fresh()
  const counts = () => Object.values(presence.count())
  assert.deepEqual(counts(), [0, 0])
  channel.state({ u1: entry("1", "1b"), u2: entry("2") })
  assert.deepEqual(counts(), [2, 3])
  channel.diff({ u2: entry("2", "2b"), u3: entry("3") }, { u1: entry("1"), u9: entry("9") })
  assert.deepEqual(counts(), [3, 4])
  channel.diff({}, { u1: entry("1b"), u3: entry("other") })
  assert.deepEqual(counts(), [2, 3])
  channel.rejoins()
  channel.state({ u3: entry("3", "4") })
  assert.deepEqual(counts(), [1, 2])
})

test("where the server counts, its numbers are told instead of the list's", () => {
  const { channel, presence } = fresh()
  const told = noted()
  presence.onCount(told)
  channel.state({ u1: entry("1") })
  channel.tells("presence_count", { users: 3000, connections: 3100 })
  channel.state({})
  assert.equal(presence.isCounted, true)
  assert.deepEqual(presence.count(), { users: 3000, connections: 3100 })
  assert.deepEqual(told.calls, [[{ users: 3000, connections: 3100 }]])
  channel.state({ u1: entry("1") }) // the room is small again
  assert.equal(presence.isCounted, false)
  assert.deepEqual(presence.count(), { users: 1, connections: 1 })
})

test("a count of an earlier join is not that of an empty list", () => {
  const { channel, presence } = fresh()
  channel.tells("presence_count", { users: 5, connections: 5 })
  channel.state({})
  channel.rejoins()
  assert.deepEqual(presence.count(), { users: 5, connections: 5 })
  channel.state({})

  assert.deepEqual(presence.count(), { users: 0, connections: 0 })
})

// Events and streams.

test("joins, leaves, syncs and counts are events", () => {
  const { channel, presence } = fresh()
  const seen = noted()
  for (const type of ["join", "leave", "sync", "count"]) {
    presence.addEventListener(type, ({ detail }) => seen(type, detail.key ?? detail.users ?? "-"))
  }
  channel.state({ u1: entry("1") })
  channel.diff({}, { u1: entry("1") })
  channel.tells("presence_count", { users: 5, connections: 5 })

  assert.deepEqual(seen.calls, [
    ["join", "u1"],
    ["sync", "-"],
    ["leave", "u1"],
    ["sync", "-"],
    ["count", 5],
  ])
})

test("a for await reads the list after each change; who is slow gets the newest", async () => {
  const socket = new Socket("/socket")
  const conn = opened(socket)
  const channel = joined(socket)
  const presence = new Presence(channel)
  const stream = lists(presence, (key) => key)
  const tell = (event, payload) => conn.receives(null, null, "room:1", event, payload)
  tell("presence_state", { u1: entry("1") })
  tell("presence_diff", { joins: { u2: entry("2") }, leaves: {} })
  const read = []
  const reading = (async () => {
    for await (const people of stream) read.push(people.join())
  })()
  await settled()
  tell("presence_diff", { joins: { u3: entry("3") }, leaves: {} })
  await settled()
  channel.leave()
  await reading

  assert.deepEqual(read, ["u1,u2", "u1,u2,u3"])
  assert.equal(FakeWebSocket.all.length, 1)
})
