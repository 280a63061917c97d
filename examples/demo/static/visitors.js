// How many browsers have this page open. The other half is in visitors.py.

import { byId } from "./elements.js"
import { recall, remember } from "./memory.js"

export function countVisitors(socket) {
  const channel = socket.channel("visitors", { id: browserId() })
  channel.on("presence_count", ({ users }) => {
    byId("visitors").hidden = false
    byId("visitors").textContent = users === 1 ? "1 visitor" : `${users.toLocaleString()} visitors`
  })
  channel.join().receive("error", () => channel.leave())
}

function browserId() {
  let id = recall("roost.browser")
  if (!id) {
    id = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("")
    remember("roost.browser", id)
  }
  return id
}
