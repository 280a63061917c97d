// What is known of people: the server adds it to each presence (see online.py).

import { element } from "./elements.js"

const users = new Map()

export function meet(name, user) {
  if (user) users.set(name, user)
}

export function roleOf(name) {
  return users.get(name)?.role ?? "guest"
}

export function hueOf(name) {
  return users.get(name)?.hue ?? 200
}

export function portrait(name) {
  const made = element("span", { className: "portrait", ariaHidden: "true" })
  return paint(made, name)
}

export function paint(portrait, name) {
  const avatar = users.get(name)?.avatar
  portrait.dataset.initials = avatar ? "" : initials(name)
  portrait.style.backgroundImage = avatar ? `url("${avatar}")` : ""
  portrait.style.setProperty("--hue", hueOf(name))
  return portrait
}

function initials(name) {
  const words = name.split(/\s+/).filter((word) => /^[\p{L}\p{N}]/u.test(word))
  const letters = words.length ? words.slice(0, 2) : [name]
  return letters.map((word) => [...word][0].toUpperCase()).join("")
}
