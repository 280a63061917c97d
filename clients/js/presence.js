// The list of who is in a channel's topic, as the server tells it: whole (`presence_state`), then
// by what changed (`presence_diff`).
//
// A list belongs to one join. Diffs that come after a join and before its list wait in
// `pendingDiffs`, and those of an earlier join are dropped: those that came before the channel
// joined again, and those that come before the new join is answered. The server answers a join
// before it sends anything to it.
//
// Entries are replaced and never changed, so that whoever holds one sees it as it was. All objects
// that are indexed by keys have no prototype: any text is a key, `__proto__` too.

import Emitter from "./emitter.js"

const MANY = 8 // refs, from which on a Set is faster than a search

export default class Presence extends Emitter {
  /**
   * @param channel
   * @param opts `events`: other names than `{ state, diff, count }` have by default
   */
  constructor(channel, opts = {}) {
    super()
    const {
      state,
      diff,
      count = "presence_count",
    } = opts.events || {
      state: "presence_state",
      diff: "presence_diff",
    }
    this.state = Object.create(null)
    this.pendingDiffs = []
    this.channel = channel
    this.joinRef = null
    this.caller = { onJoin() {}, onLeave() {}, onSync() {}, onCount() {} }
    this.pendingRef = null // the join that `pendingDiffs` belong to
    this.counted = null // what the server counts, where it lists nobody
    this.countedRef = null
    this.tally = { users: 0, connections: 0 } // of `state`
    channel.on(state, (newState) => this.receiveState(newState))
    channel.on(diff, (newDiff) => this.receiveDiff(newDiff))
    channel.on(count, (counts) => this.receiveCount(counts))
  }

  /** Call back with `(key, current, joined)`; `current` is undefined if the key is new. */
  onJoin(callback) {
    this.caller.onJoin = callback
  }

  /** Call back with `(key, current, left)`; `current.metas` is empty if the key is gone. */
  onLeave(callback) {
    this.caller.onLeave = callback
  }

  /** Call back after each list, and after each diff that does not wait for one. */
  onSync(callback) {
    this.caller.onSync = callback
  }

  /** Call back with `{ users, connections }` when the server counts instead of listing. */
  onCount(callback) {
    this.caller.onCount = callback
  }

  /** What `by(key, entry)` returns for each key, or the entries. */
  list(by) {
    return Presence.list(this.state, by)
  }

  /** How many are here: keys and presences, as the server counts them if it lists nobody. */
  count() {
    return { ...(this.counted || this.tally) }
  }

  /** Whether the server only counts, and lists nobody. */
  get isCounted() {
    return this.counted !== null
  }

  inPendingSyncState() {
    return !this.joinRef || this.joinRef !== this.channel.joinRef()
  }

  receiveState(newState) {
    const joinRef = this.channel.joinRef()
    const pending = this.pendingRef === joinRef ? this.pendingDiffs : []
    this.pendingDiffs = []
    this.joinRef = joinRef
    if (this.countedRef !== joinRef || Object.keys(newState).length > 0) this.counted = null
    this.apply(changes(this.state, newState))
    for (const diff of pending) this.apply(diff)
    this.synced()
  }

  receiveDiff(diff) {
    if (!this.inPendingSyncState()) {
      this.apply(diff)
      return this.synced()
    }
    if (this.channel.isJoining?.()) return // this join is not answered yet: it is of the one before
    const joinRef = this.channel.joinRef()
    if (this.pendingRef !== joinRef) this.pendingDiffs = []
    this.pendingRef = joinRef
    this.pendingDiffs.push(diff)
  }

  receiveCount(counts) {
    this.counted = counts
    this.countedRef = this.channel.joinRef()
    this.caller.onCount(counts)
    this.emit("count", counts)
  }

  apply(diff) {
    const { onJoin, onLeave } = this.caller
    const tell = (type, callback, name) => (key, current, changed) => {
      callback(key, current, changed)
      if (this.target) this.emit(type, { key, current, [name]: changed })
    }
    this.state = withoutPrototype(this.state)
    merge(
      this.state,
      diff,
      tell("join", onJoin, "joined"),
      tell("leave", onLeave, "left"),
      this.tally,
    )
  }

  synced() {
    this.caller.onSync()
    this.emit("sync", this)
  }

  /** The state after a whole list. `currentState` stays as it is. */
  static syncState(currentState, newState, onJoin, onLeave) {
    const state = copyOf(currentState)
    return merge(state, clone(changes(state, newState)), onJoin, onLeave)
  }

  /** The state after a diff: `state` itself if it has no prototype, else a copy. */
  static syncDiff(state, diff, onJoin, onLeave) {
    return merge(withoutPrototype(state), clone(diff), onJoin, onLeave)
  }

  static list(presences, chooser = (_key, entry) => entry) {
    return Object.keys(presences).map((key) => chooser(key, presences[key]))
  }
}

/** The diff that leads from one list to another. Entries of both are not changed. */
function changes(state, newState) {
  const joins = Object.create(null)
  const leaves = Object.create(null)
  const next = withoutPrototype(newState)
  for (const key of Object.keys(state)) {
    if (!next[key]) leaves[key] = state[key]
  }
  for (const key of Object.keys(next)) {
    const before = state[key]
    const entry = next[key]
    if (!before) {
      joins[key] = entry
      continue
    }
    const joined = without(entry.metas, before.metas)
    const left = without(before.metas, entry.metas)
    if (joined.length > 0) joins[key] = { ...entry, metas: joined }
    if (left.length > 0) leaves[key] = { ...before, metas: left }
  }
  return { joins, leaves }
}

/** Put a diff into a state, in time that depends on the diff alone. */
function merge(state, { joins, leaves }, onJoin, onLeave, tally = {}) {
  for (const key of Object.keys(joins)) {
    const current = state[key]
    const joined = joins[key]
    const kept = current ? without(current.metas, joined.metas) : []
    state[key] = { ...joined, metas: kept.concat(joined.metas) }
    if (!current) tally.users++
    tally.connections += state[key].metas.length - (current ? current.metas.length : 0)
    onJoin?.(key, current, joined)
  }
  for (const key of Object.keys(leaves)) {
    const before = state[key]
    if (!before) continue
    const left = leaves[key]
    const current = { ...before, metas: without(before.metas, left.metas) }
    state[key] = current
    tally.connections -= before.metas.length - current.metas.length
    if (current.metas.length === 0) tally.users--
    onLeave?.(key, current, left)
    if (current.metas.length === 0) delete state[key]
  }
  return state
}

/** The metas whose ref is not among those of others. */
function without(metas, others) {
  if (others.length < MANY) {
    return metas.filter(({ phx_ref }) => !others.some((other) => other.phx_ref === phx_ref))
  }
  const refs = new Set(others.map((other) => other.phx_ref))
  return metas.filter(({ phx_ref }) => !refs.has(phx_ref))
}

const copyOf = (presences) => Object.assign(Object.create(null), presences)

const withoutPrototype = (presences) =>
  Object.getPrototypeOf(presences) === null ? presences : copyOf(presences)

const clone = (value) => JSON.parse(JSON.stringify(value))
