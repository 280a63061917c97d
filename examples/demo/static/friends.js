// Whose coming and going I want to hear of, in whatever room. The other half is in friends.py.

import { arrange, byId, element } from "./elements.js"
import { recall, remember } from "./memory.js"
import { meet, paint, portrait } from "./people.js"

const MAX_FRIENDS = 50
const TOAST_TIME = 7_000 // ms
const MAX_TOASTS = 3
const RECONNECT_TIME = 10_000 // ms

let key, channel
let friends = []
const places = new Map() // name → where, of those who are online
const seenAt = new Map() // name → Unix seconds, of those who were
const expected = new Set() // those who were online before the connection was cut

export function followFriends(socket, me) {
  key = `roost.friends.${me}` // so that Alice and Bob can try it in one browser
  friends = recall(key) ?? []
  channel = socket.channel("friends:me", () => ({ name: me, friends }))
  channel.on("friends", ({ places: present, users, seen_at }) => {
    for (const [name, user] of Object.entries(users)) meet(name, user)
    for (const [name, at] of Object.entries(seen_at)) seenAt.set(name, at)
    expect([...places.keys()].filter((name) => !present[name]))
    places.clear()
    for (const [name, at] of Object.entries(present)) if (at.length) places.set(name, at)
    showFriends()
  })
  channel.on("friend", ({ name, places: at, is_online }) => {
    seenAt.set(name, Date.now() / 1000)
    if (!is_online) {
      if (places.delete(name)) showToast(name, `${name} went offline`)
    } else if (at.length) { // else on the way from one place to another
      if (!places.has(name) && !expected.has(name)) showToast(name, `${name} came online ${where(at)}`)
      places.set(name, at)
    }
    showFriends()
  })
  channel.join().receive("error", () => channel.leave())
  setInterval(showFriends, 30_000) // the times go on
  addEventListener("storage", (change) => { // another tab of mine starred somebody
    if (change.key === key) follow(recall(key) ?? [])
  })
  byId("friend-list").addEventListener("click", ({ target }) => {
    if (target.matches(".star")) toggleFriend(target.closest("li").dataset.name)
  })
  showFriends()
}

export const isFriend = (name) => friends.includes(name)

export function toggleFriend(name) {
  const others = friends.filter((friend) => friend !== name)
  follow(isFriend(name) ? others : [...others, name].slice(-MAX_FRIENDS))
  remember(key, friends)
}

function follow(names) {
  friends = names
  channel.push("follow", { friends })
  showFriends()
  document.dispatchEvent(new Event("friends"))
}

// They come back one after the other when the server has restarted: that is no news.
function expect(names) {
  for (const name of names) {
    expected.add(name)
    setTimeout(() => expected.delete(name), RECONNECT_TIME)
  }
}

function where(topics) {
  const names = topics.map((topic) => topic.split(":"))
  return names.map(([kind, name]) => kind === "room" ? `in the ${name}` : "at the board").join(", ")
}

function lastSeen(name) {
  if (!seenAt.has(name)) return "offline"
  const minutes = Math.round((Date.now() / 1000 - seenAt.get(name)) / 60)
  if (minutes < 1) return "was here just now"
  const [count, unit] = minutes < 60 ? [minutes, "minute"]
    : minutes < 24 * 60 ? [minutes / 60, "hour"] : [minutes / 60 / 24, "day"]
  return `was here ${new Intl.RelativeTimeFormat("en").format(-Math.round(count), unit)}`
}

function showFriends() {
  const rows = new Map([...byId("friend-list").children].map((row) => [row.dataset.name, row]))
  const names = friends.toSorted((one, other) => one.localeCompare(other))
  arrange(byId("friend-list"), names.map((name) => {
    const row = rows.get(name) ?? makeRow(name)
    const at = places.get(name)
    const [face, who] = row.children
    paint(face, name)
    row.toggleAttribute("data-offline", !at)
    who.lastChild.textContent = at ? where(at) : lastSeen(name)
    return row
  }))
}

function makeRow(name) {
  const row = element("li")
  row.dataset.name = name
  const who = element("span", { className: "who" })
  who.append(
    element("span", { className: "name", text: name }), " ",
    element("span", { className: "where" }),
  )
  const star = element("button", { type: "button", className: "star", ariaPressed: "true" })
  star.ariaLabel = star.title = `No more news of ${name}`
  row.append(portrait(name), who, star)
  return row
}

function showToast(name, text) {
  const toast = element("div", { className: "toast" })
  const close = element("button", { type: "button", className: "close", ariaLabel: "Dismiss" })
  close.addEventListener("click", () => toast.remove())
  toast.append(portrait(name), element("p", { text }), close)
  byId("toasts").append(toast)
  while (byId("toasts").children.length > MAX_TOASTS) byId("toasts").firstChild.remove()
  setTimeout(() => toast.remove(), TOAST_TIME)
}
