// The board: notes that all can write and move, and everybody's cursor. The other half is in
// board.py. Places are fractions of the board, so that they fit into windows of any size.

import { Presence } from "phoenix"
import { arrange, byId, eachFrame, element } from "./elements.js"
import { meet, paint, portrait } from "./people.js"

const EVENTS = ["presence_state", "presence_diff", "point", "unpoint", "notes", "note", "remove"]
const POINT_TIMEOUT = 200 // ms; no answer is awaited to so many messages
const STEP = 0.03 // of the board, for each press of an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

export function enterBoard(channel) {
  const surface = byId("surface")
  const presence = new Presence(channel)
  const cursors = new Map() // id → element
  const notes = new Map() // id → element
  const ending = new AbortController()
  const listen = (target, event, act) => {
    target.addEventListener(event, act, { signal: ending.signal })
  }

  // Who is here.

  presence.onSync(() => {
    const people = presence.list((name, { metas, user }) => {
      meet(name, user)
      return { name, count: metas.length }
    })
    people.sort((one, other) => one.name.localeCompare(other.name))
    showParticipants(people)
  })
  presence.onLeave((name, { metas }) => {
    if (metas.length > 0) return
    for (const [id, { dataset }] of cursors) if (dataset.name === name) hideCursor(id)
  })
  channel.onError(() => [...cursors.keys()].forEach(hideCursor))

  // Cursors: at most one message for each frame that is drawn.

  channel.on("point", ({ id, name, hue, x, y }) => {
    const cursor = cursors.get(id) ?? makeCursor(name, hue)
    place(cursor, x, y)
    if (!cursors.has(id)) surface.append(cursor)
    cursors.set(id, cursor)
  })
  channel.on("unpoint", ({ id }) => hideCursor(id))

  const point = eachFrame((move) => {
    if (!channel.isJoined()) return // later it would be of no use
    const { left, top, width, height } = surface.getBoundingClientRect()
    const [x, y] = [(move.clientX - left) / width, (move.clientY - top) / height]
    const isInside = Math.min(x, y) >= 0 && Math.max(x, y) <= 1
    if (move.type === "pointerleave" || !isInside) channel.push("unpoint", {}, POINT_TIMEOUT)
    else channel.push("point", { x, y }, POINT_TIMEOUT)
  })
  listen(surface, "pointermove", (move) => move.isPrimary && point(move))
  listen(surface, "pointerdown", (down) => down.isPrimary && point(down))
  listen(surface, "pointerleave", (leave) => {
    if (leave.pointerType === "mouse") point(leave) // a finger has pointed, and is lifted
  })

  function hideCursor(id) {
    cursors.get(id)?.remove()
    cursors.delete(id)
  }

  // Notes.

  channel.on("notes", ({ notes: present }) => {
    const ids = new Set(present.map(({ id }) => id))
    for (const id of notes.keys()) if (!ids.has(id)) removeNote(id)
    present.forEach(showNote)
  })
  channel.on("note", showNote)
  channel.on("remove", ({ id }) => removeNote(id))
  listen(byId("add-note"), "click", () => {
    tell("add", freePlace(notes.size))
      .receive("ok", (note) => showNote(note).querySelector("textarea").focus())
  })

  function tell(event, payload) {
    showError("")
    return channel.push(event, payload).receive("error", ({ reason }) => showError(reason))
  }

  function showNote({ id, name, hue, text, x, y }) {
    const note = notes.get(id) ?? makeNote(id, name, hue)
    const field = note.querySelector("textarea")
    if (field.value.trim() !== text) { // the later one counts, but the caret stays
      const { selectionStart, selectionEnd } = field
      field.value = text
      field.setSelectionRange(selectionStart, selectionEnd)
    }
    place(note, x, y)
    return note
  }

  function makeNote(id, name, hue) {
    const note = element("article", { className: "note" })
    note.style.setProperty("--hue", hue)
    const grip = element("button", { type: "button", className: "grip", text: name })
    grip.ariaLabel = `Note of ${name}: drag it, or move it with the arrow keys`
    const remove = element("button", { type: "button", className: "close" })
    remove.ariaLabel = `Remove the note of ${name}`
    const field = element("textarea", { maxLength: 200, ariaLabel: `Note of ${name}`, dir: "auto" })
    note.append(grip, remove, field)

    const write = eachFrame(() => tell("write", { id, text: field.value }))
    field.addEventListener("input", write)
    remove.addEventListener("click", () => {
      tell("remove", { id })
      removeNote(id)
      byId("add-note").focus()
    })
    makeMovable(note, grip, eachFrame((x, y) => tell("move", { id, x, y })))
    notes.set(id, note)
    surface.append(note)
    return note
  }

  function removeNote(id) {
    notes.get(id)?.remove()
    notes.delete(id)
  }

  showError("")
  byId("participants").replaceChildren()
  return () => {
    for (const event of EVENTS) channel.off(event)
    ending.abort()
    surface.replaceChildren()
  }
}

// The next of a row of places that fills the board evenly.
function freePlace(count) {
  const spread = (step) => 0.04 + 0.92 * ((0.3 + count * step) % 1)
  return { x: spread(0.7549), y: spread(0.5698) }
}

function makeMovable(note, grip, tell) {
  let held // where in the note the pointer holds it
  const move = (x, y) => {
    const [left, top] = [x, y].map((part) => Math.min(Math.max(part, 0), 1))
    place(note, left, top)
    tell(left, top)
  }
  grip.addEventListener("pointerdown", (down) => {
    const { left, top } = note.getBoundingClientRect()
    held = { x: down.clientX - left, y: down.clientY - top }
    grip.setPointerCapture(down.pointerId)
    note.classList.add("held")
  })
  grip.addEventListener("pointermove", (event) => {
    if (!held) return
    const board = note.parentElement.getBoundingClientRect()
    const { width, height } = note.getBoundingClientRect()
    move(
      (event.clientX - held.x - board.left) / (board.width - width),
      (event.clientY - held.y - board.top) / (board.height - height),
    )
  })
  grip.addEventListener("lostpointercapture", () => {
    held = undefined
    note.classList.remove("held")
  })
  grip.addEventListener("keydown", (press) => {
    const arrow = ARROWS[press.key]
    if (!arrow) return
    press.preventDefault()
    move(Number(note.dataset.x) + arrow[0] * STEP, Number(note.dataset.y) + arrow[1] * STEP)
  })
}

function makeCursor(name, hue) {
  const cursor = element("div", { className: "cursor", ariaHidden: "true" })
  cursor.dataset.name = name
  cursor.style.setProperty("--hue", hue)
  cursor.append(element("span", { text: name }))
  return cursor
}

function place(item, x, y) {
  Object.assign(item.dataset, { x, y })
  item.style.setProperty("--x", x)
  item.style.setProperty("--y", y)
}

function showParticipants(people) {
  const rows = new Map([...byId("participants").children].map((row) => [row.dataset.name, row]))
  arrange(byId("participants"), people.map(({ name, count }) => {
    const row = rows.get(name) ?? element("li")
    row.dataset.name = row.title = name
    if (!row.hasChildNodes()) row.append(portrait(name), element("span", { className: "name" }))
    paint(row.firstChild, name)
    row.lastChild.textContent = count === 1 ? name : `${name} (${count})`
    return row
  }))
}

function showError(reason) {
  byId("board-error").textContent = reason
}
