// The page: who I am, and which place is open. Each place has a file of its own, and so have the
// friends and the visitors; all of them share one socket. The other half is in app.py.

import { Socket } from "phoenix"
import { enterBoard } from "./board.js"
import { byId } from "./elements.js"
import { followFriends } from "./friends.js"
import { enterRoom } from "./room.js"
import { countVisitors } from "./visitors.js"

const STATES = { connecting: "Connecting…", online: "Online", reconnecting: "Reconnecting…" }

const me = new URLSearchParams(location.search).get("name")?.trim()
const socket = new Socket("/socket")
const places = [...byId("places").children]
let leave = () => {}

countVisitors(socket)
socket.connect()
if (me) start()
else askForName()

function start() {
  document.title = `${me} · roost demo`
  byId("again").textContent = me
  byId("again").href = address("lobby")
  for (const link of places) {
    link.href = address(link.dataset.place)
    link.addEventListener("click", go)
  }
  addEventListener("popstate", enter)
  enter()
  followFriends(socket, me)
}

function go(click) {
  if (click.metaKey || click.ctrlKey || click.shiftKey) return // into another tab
  click.preventDefault()
  if (click.currentTarget.ariaCurrent) return
  history.pushState(null, "", click.currentTarget.href)
  enter()
}

function enter() {
  leave()
  const place = currentPlace()
  for (const link of places) link.ariaCurrent = link.dataset.place === place ? "page" : null
  const isBoard = place === "board"
  const channel = socket.channel(
    isBoard ? "board:main" : `room:${place}`,
    () => ({ name: me, status: document.body.dataset.status }),
  )
  show(isBoard ? "board" : "room")
  if (!socket.isConnected()) showState("connecting")
  const whenLeft = isBoard ? enterBoard(channel) : enterRoom(channel, me, titleOf(place))
  let lost = "connecting"
  leave = () => {
    leave = () => {}
    channel.leave()
    whenLeft()
  }

  channel.onError(() => showState(lost)) // the client reconnects and joins again by itself
  channel.join()
    .receive("ok", () => {
      lost = "reconnecting"
      showState("online")
    })
    .receive("error", ({ reason }) => {
      leave()
      askForName(reason)
    })
}

function currentPlace() {
  if (location.pathname === "/board") return "board"
  const room = new URLSearchParams(location.search).get("room")
  return places.some((link) => link.dataset.place === room) ? room : "lobby"
}

function address(place) {
  const query = { name: me, ...(place !== "lobby" && place !== "board" && { room: place }) }
  return `${place === "board" ? "/board" : "/"}?${new URLSearchParams(query)}`
}

function titleOf(place) {
  return places.find((link) => link.dataset.place === place).textContent
}

function askForName(reason = "") {
  show("welcome")
  byId("name-error").textContent = reason
  byId("name").value = me ?? ""
  byId("name").focus()
}

function show(id) {
  for (const main of document.querySelectorAll("main")) main.hidden = main.id !== id
  byId("places").hidden = byId("status").hidden = id === "welcome"
}

function showState(state) {
  document.body.dataset.state = state
  byId("status").textContent = STATES[state]
}
