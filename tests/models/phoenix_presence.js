// Play histories through a phoenix.js and write what it holds and says after each event.
//
//   node phoenix_presence.js FILE.js <histories.json
//
// A history is a list of [event, payload]; event is "join" (payload: the new join ref), "state" or
// "diff". What is written is, for each history, a list of [callbacks so far, state].

const fs = require("fs")

global.window = global
const module_ = require(require("path").resolve(process.argv[2]))
const { Presence } = module_
const refs = (entry) => (entry ? entry.metas.map((meta) => meta.phx_ref) : null)

function play(history) {
  const calls = []
  const onJoin = (key, current, joined) => calls.push(["join", key, refs(current), refs(joined)])
  const onLeave = (key, current, left) => calls.push(["leave", key, refs(current), refs(left)])
  const handlers = {}
  let joinRef = null
  let presence
  if (typeof Presence === "function") {
    presence = new Presence({
      on: (event, handler) => (handlers[event] = handler),
      joinRef: () => joinRef,
    })
    presence.onJoin(onJoin)
    presence.onLeave(onLeave)
  } else {
    presence = { state: {} }
    const follow = (sync) => (payload) => {
      presence.state = sync.call(Presence, presence.state, payload, onJoin, onLeave)
    }
    handlers.presence_state = follow(Presence.syncState)
    handlers.presence_diff = follow(Presence.syncDiff)
  }
  return history.map(([event, payload]) => {
    if (event === "join") joinRef = payload
    else handlers[`presence_${event}`](payload)
    const state = Object.keys(presence.state).map((key) => [key, presence.state[key]])
    return JSON.parse(JSON.stringify([calls, state]))
  })
}

const histories = JSON.parse(fs.readFileSync(0, "utf8"))
process.stdout.write(JSON.stringify(histories.map(play)))
