// What a list of PRESENCES costs in a page, in roost's client and in the npm package phoenix:
//
//     node --expose-gc bench/javascript.mjs [10000]
//
// A diff is one join and one leave, from the text of the message to the list. A list is the whole
// `presence_state`, the first one and one after a rejoin in which a tenth has changed.

import * as ours from "../clients/js/index.js"
import * as phoenix from "../node_modules/phoenix/priv/static/phoenix.mjs"

const count = Number(process.argv[2] ?? 10_000)
const ROUNDS = 2_000

const meta = (n, life) => ({
  phx_ref: `F${life}oR${n}`,
  online_at: 1_767_225_600 + n,
  status: "online",
})
const entry = (n, life = 0) => ({ metas: [meta(n, life)] })
const list = (changed = 0) => {
  const state = {}
  for (let n = 0; n < count; n++) state[`user-${n}`] = entry(n, n < changed ? 1 : 0)
  return state
}

function fresh({ Presence }) {
  const callbacks = {}
  const channel = {
    ref: 1,
    on: (event, callback) => (callbacks[event] = callback),
    joinRef: () => String(channel.ref),
  }
  const presence = new Presence(channel)
  const tell = (event, text) => callbacks[event](JSON.parse(text))
  return { presence, channel, tell }
}

const median = (values) => values.sort((one, other) => one - other)[values.length >> 1]

function timed(run) {
  const from = process.hrtime.bigint()
  run()
  return Number(process.hrtime.bigint() - from) / 1e3
}

function measure(client) {
  const first = JSON.stringify(list())
  const second = JSON.stringify(list(count / 10))
  const diffs = Array.from({ length: ROUNDS }, (_, round) => {
    const [n, life] = [round % count, Math.floor(round / count)]
    const key = `user-${n}`
    return JSON.stringify({
      joins: { [key]: entry(n, life + 1) },
      leaves: { [key]: entry(n, life) },
    })
  })
  const parse = median(Array.from({ length: 9 }, () => timed(() => JSON.parse(first))))
  const lists = Array.from({ length: 9 }, () => {
    const { channel, tell } = fresh(client)
    const firstList = timed(() => tell("presence_state", first))
    channel.ref++
    return [firstList, timed(() => tell("presence_state", second))]
  })
  const { presence, tell } = fresh(client)
  globalThis.gc?.()
  const before = process.memoryUsage().heapUsed
  tell("presence_state", first)
  globalThis.gc?.()
  const memory = process.memoryUsage().heapUsed - before
  const each = diffs.map((diff) => timed(() => tell("presence_diff", diff)))
  if (presence.list().length !== count) throw new Error("the list is wrong")
  return {
    "a diff, µs": median(each).toFixed(1),
    "the first list, ms": (median(lists.map(([one]) => one)) / 1e3).toFixed(1),
    "a list after a rejoin, ms": (median(lists.map(([, two]) => two)) / 1e3).toFixed(1),
    "(parsing it, ms)": (parse / 1e3).toFixed(1),
    "memory, KB": globalThis.gc ? Math.round(memory / 1024) : "needs --expose-gc",
  }
}

console.log(`${count} presences`)
console.table({ roost: measure(ours), phoenix: measure(phoenix) })
