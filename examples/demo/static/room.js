// One room: who is here, and a chat. The other half is in rooms.py.

import { Presence } from "phoenix"
import { arrange, byId, element } from "./elements.js"
import { isFriend, toggleFriend } from "./friends.js"
import { meet, paint, portrait, roleOf } from "./people.js"

const EVENTS = ["presence_state", "presence_diff", "presence_count", "shout", "typing"]
const MAX_SHOWN = 200 // messages
const RELOAD_TIME = 2_000 // ms; who left and is back within has only reloaded
const RECONNECT_TIME = 10_000 // ms; who was gone after a cut and is back within had the same cut
const HIDDEN_LONG = 3_000 // ms; then whoever looks elsewhere is away
const TYPING_PERIOD = 2_000 // ms between two signs of somebody who types
const TYPING_OVER = 3_000 // ms without a sign: it is over

export function enterRoom(channel, me, title) {
  const left = new Map() // name → the notice, of those who left just now
  const typing = new Map() // name → when it is over
  const ending = new AbortController()
  const listen = (target, event, act) => {
    target.addEventListener(event, act, { signal: ending.signal })
  }
  let isLive = false // what the first list of each join has is no news
  let isCrowd = false
  let typedAt = 0

  // Who is here. In a crowd there are only counts, and an empty list.

  channel.on("presence_state", (state) => {
    const wasCrowd = isCrowd
    isCrowd = Object.keys(state).length === 0
    if (wasCrowd && !isCrowd) isLive = false
  })
  channel.on("presence_count", ({ users }) => showCrowd(users))
  const presence = new Presence(channel)
  presence.onSync(() => {
    isLive = true
    if (isCrowd) return
    const people = presence.list((name, { metas, user }) => {
      meet(name, user)
      const isAway = metas.every(({ status }) => status === "away")
      return { name, count: metas.length, isAway }
    })
    people.sort((one, other) => one.name.localeCompare(other.name))
    showPeople(people, me)
  })
  presence.onJoin((name, before, { user }) => {
    meet(name, user)
    if (!before) came(name)
  })
  presence.onLeave((name, { metas }) => {
    if (metas.length === 0) went(name)
  })
  channel.onError(() => (isLive = false))

  function came(name) {
    const notice = left.get(name)
    if (left.delete(name)) notice?.remove()
    else if (isLive && !isCrowd) showNotice(`${name} joined`)
  }

  function went(name) {
    const notice = isLive && !isCrowd ? showNotice(`${name} left`) : undefined
    left.set(name, notice)
    setTimeout(
      () => left.get(name) === notice && left.delete(name),
      notice ? RELOAD_TIME : RECONNECT_TIME,
    )
    stopTyping(name)
  }

  // What is said.

  channel.on("shout", ({ name, message }) => {
    stopTyping(name)
    showMessage(name, message, name === me)
  })
  listen(byId("composer"), "submit", (submit) => {
    submit.preventDefault()
    const message = takeMessage()
    typedAt = 0
    channel.push("shout", { message })
      .receive("error", ({ reason }) => giveBack(message, reason))
      .receive("timeout", () => giveBack(message, "There was no connection."))
  })

  // Who is typing: a sign every now and then, and silence when it is over.

  channel.on("typing", ({ name }) => {
    clearTimeout(typing.get(name))
    typing.set(name, setTimeout(stopTyping, TYPING_OVER, name))
    showTyping([...typing.keys()])
  })
  listen(byId("message"), "input", () => {
    if (!byId("message").value || Date.now() - typedAt < TYPING_PERIOD) return
    if (!channel.isJoined()) return
    typedAt = Date.now()
    channel.push("typing", {})
  })

  function stopTyping(name) {
    clearTimeout(typing.get(name))
    if (typing.delete(name)) showTyping([...typing.keys()])
  }

  // Who is away: those who say so, and those who look at something else.

  let hiding
  listen(document, "visibilitychange", () => {
    clearTimeout(hiding)
    if (document.hidden) hiding = setTimeout(tellStatus, HIDDEN_LONG)
    else tellStatus()
  })
  listen(byId("online"), "click", ({ target }) => {
    const name = target.closest("li")?.dataset.name
    if (target.matches(".star")) toggleFriend(name)
    if (target.matches(".moon")) {
      document.body.toggleAttribute("data-away")
      tellStatus()
    }
  })
  listen(document, "friends", () => showStars(me))

  function tellStatus() {
    const before = document.body.dataset.status
    const status = noteStatus()
    if (status !== before) channel.push("status", { status })
  }

  noteStatus() // the join tells it
  showRoom(title)
  return () => {
    for (const event of EVENTS) channel.off(event) // what is under way belongs to this room
    ending.abort()
    clearTimeout(hiding)
    for (const timer of typing.values()) clearTimeout(timer)
  }
}

function noteStatus() {
  const isAway = document.hidden || "away" in document.body.dataset
  return document.body.dataset.status = isAway ? "away" : "online"
}

function showRoom(title) {
  byId("room-title").textContent = title
  byId("online").replaceChildren()
  byId("messages").replaceChildren()
  byId("typing").replaceChildren()
  byId("message-error").textContent = ""
  byId("crowd").hidden = true
  byId("online").hidden = false
  if (matchMedia("(pointer: fine)").matches) byId("message").focus()
}

function showPeople(people, me) {
  byId("online").hidden = false
  byId("crowd").hidden = true
  const rows = new Map([...byId("online").children].map((row) => [row.dataset.name, row]))
  arrange(byId("online"), people.map(({ name, count, isAway }) => {
    const row = rows.get(name) ?? makeRow(name, me)
    const [face, who] = row.children
    paint(face, name)
    who.lastChild.textContent = `(${count})`
    row.title = count === 1 ? "on one device" : `on ${count} devices`
    row.toggleAttribute("data-away", isAway)
    const about = [name === me && "you", roleOf(name), isAway && "away"]
    who.dataset.about = about.filter(Boolean).join(" · ")
    return row
  }))
  showStars(me)
}

function makeRow(name, me) {
  const row = element("li")
  row.dataset.name = name
  row.toggleAttribute("data-me", name === me)
  const who = element("span", { className: "who" })
  who.append(element("span", { className: "name", text: name }), " ", element("span"))
  row.append(portrait(name), who, element("button", {
    type: "button",
    className: name === me ? "moon" : "star",
  }))
  return row
}

function showStars(me) {
  for (const { dataset: { name }, lastChild: button } of byId("online").children) {
    const isOn = name === me ? "away" in document.body.dataset : isFriend(name)
    button.ariaPressed = isOn
    button.ariaLabel = button.title = name === me
      ? "Show me as away"
      : `Tell me when ${name} comes online`
  }
}

function showCrowd(users) {
  byId("online").hidden = true
  byId("crowd").hidden = false
  byId("crowd").textContent = `${users.toLocaleString()} people`
}

function showMessage(name, message, isMine) {
  const time = new Date().toLocaleTimeString([], { hour: "numeric", minute: "2-digit" })
  const item = element("li")
  item.dataset.name = name
  item.dataset.role = roleOf(name)
  item.toggleAttribute("data-me", isMine)
  item.toggleAttribute("data-more", byId("messages").lastChild?.dataset.name === name)
  item.append(
    portrait(name),
    element("b", { text: name }), " ",
    element("time", { text: time }),
    element("p", { text: message }),
  )
  add(item)
}

function showNotice(text) {
  return add(element("li", { className: "notice", text }))
}

function add(item) {
  byId("messages").append(item)
  if (byId("messages").children.length > MAX_SHOWN) byId("messages").firstChild.remove()
  return item
}

function showTyping(names) {
  if (names.length === 0) return byId("typing").replaceChildren()
  const who = new Intl.ListFormat("en").format(names)
  const text = names.length > 3 ? "Several people are typing…"
    : `${who} ${names.length === 1 ? "is" : "are"} typing…`
  byId("typing").replaceChildren(element("span", { text }))
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
