// Who is here, and a chat, on the official client of Phoenix. The other half is in app.py.

import { Presence, Socket } from "phoenix"

const MAX_SHOWN = 200 // messages
const STATES = { connecting: "Connecting…", online: "Online", reconnecting: "Reconnecting…" }

const me = new URLSearchParams(location.search).get("name")?.trim()
const byId = (id) => document.getElementById(id)

if (me) enterRoom()
else askForName()

function enterRoom() {
  const socket = new Socket("/socket")
  const channel = socket.channel("room:lobby", { name: me })
  const presence = new Presence(channel)
  let lost = "connecting"

  presence.onSync(() => showPeople(presence.list((name, { metas }) => [name, metas.length])))
  channel.on("shout", ({ name, message }) => showMessage(name, message))
  channel.onError(() => showState(lost)) // the client reconnects and joins again by itself

  channel.join()
    .receive("ok", () => {
      lost = "reconnecting"
      showState("online")
    })
    .receive("error", ({ reason }) => {
      socket.disconnect()
      askForName(reason)
    })

  byId("composer").addEventListener("submit", (submit) => {
    submit.preventDefault()
    const message = takeMessage()
    channel.push("shout", { message })
      .receive("error", ({ reason }) => giveBack(message, reason))
      .receive("timeout", () => giveBack(message, "There was no connection."))
  })

  showRoom()
  showState("connecting")
  socket.connect()
}

// What is shown. What people wrote is only ever set as text, never as HTML.

function askForName(reason = "") {
  byId("room").hidden = byId("status").hidden = true
  byId("welcome").hidden = false
  byId("name-error").textContent = reason
  byId("name").value = me ?? ""
  byId("name").focus()
}

function showRoom() {
  document.title = `${me} · roost demo`
  byId("again").textContent = me
  byId("again").href = `/?${new URLSearchParams({ name: me })}`
  byId("room").hidden = byId("status").hidden = false
  byId("message").focus()
}

function showState(state) {
  document.body.dataset.state = state
  byId("status").textContent = STATES[state]
}

function showPeople(people) {
  people.sort(([a], [b]) => a.localeCompare(b))
  byId("online").replaceChildren(...people.map(([name, count]) => {
    const item = element("li", `${name} (${count})`)
    item.title = count === 1 ? "in one tab" : `in ${count} tabs`
    return mark(item, name)
  }))
}

function showMessage(name, message) {
  const time = new Date().toLocaleTimeString([], { hour: "numeric", minute: "2-digit" })
  const item = element("li")
  item.append(element("b", name), " ", element("time", time), element("p", message))
  byId("messages").append(mark(item, name))
  if (byId("messages").children.length > MAX_SHOWN) byId("messages").firstChild.remove()
}

function takeMessage() {
  const message = byId("message").value
  byId("message").value = byId("message-error").textContent = ""
  byId("message").focus()
  return message
}

function giveBack(message, reason) {
  byId("message-error").textContent = `Not sent. ${reason}`
  byId("message").value ||= message
}

function mark(item, name) {
  item.dataset.name = name
  item.dataset.initial = [...name][0].toUpperCase()
  item.toggleAttribute("data-me", name === me)
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt()) % 360, 0)
  item.style.setProperty("--hue", hue)
  return item
}

function element(tag, text = "") {
  const made = document.createElement(tag)
  made.textContent = text
  made.dir = "auto"
  return made
}
