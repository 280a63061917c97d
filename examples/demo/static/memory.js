// What this browser remembers. Where it may not, it is forgotten with the page.

const forgotten = new Map()

export function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(key))
  } catch {
    return forgotten.get(key) ?? null
  }
}

export function remember(key, value) {
  forgotten.set(key, value)
  try {
    localStorage.setItem(key, JSON.stringify(value))
  } catch {}
}
