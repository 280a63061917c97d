// What happens to a page while it has a socket: it is hidden and shown, put into the cache for
// "back" and restored, falls asleep with its machine, and goes offline and online.

/** Let a socket follow the page that it is in. Without a window, nothing happens. */
export function followPage(socket, page = globalThis.window) {
  if (!page?.addEventListener) return
  let leftAt = null // the connectClock of the disconnect when the page went

  page.addEventListener("pagehide", () => {
    if (!socket.conn || socket.disconnecting) return
    socket.sayGoodbye()
    socket.disconnect()
    leftAt = socket.connectClock
  })
  page.addEventListener("pageshow", () => {
    if (leftAt !== socket.connectClock) return // somebody else has decided since
    leftAt = null
    socket.connect()
  })
  const changed = () => {
    socket.pageHidden = page.document?.visibilityState === "hidden"
    if (!socket.pageHidden) socket.wake()
  }
  page.addEventListener("visibilitychange", changed)
  page.document?.addEventListener?.("resume", changed) // Chromium, after freezing a page
  page.addEventListener("online", () => socket.wake())
}
