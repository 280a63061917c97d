// Elements of the page. What people wrote is only ever set as text, never as HTML.

export const byId = (id) => document.getElementById(id)

export function element(tag, { text, ...properties } = {}) {
  const made = Object.assign(document.createElement(tag), properties)
  if (text !== undefined) {
    made.textContent = text
    made.dir = "auto"
  }
  return made
}

// Make `list` contain exactly `items`, in order, moving only what has to move: what has the focus
// keeps it.
export function arrange(list, items) {
  items.forEach((item, index) => {
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null)
  })
  while (list.children.length > items.length) list.lastChild.remove()
}

// The most recent call counts, once for each frame that is drawn.
export function eachFrame(act) {
  let latest
  return (...values) => {
    if (!latest) {
      requestAnimationFrame(() => {
        const now = latest
        latest = undefined
        act(...now)
      })
    }
    latest = values
  }
}
