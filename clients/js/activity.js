import Emitter from "./emitter.js"

const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchstart"]

/**
 * Whether somebody is at this page: `state` is "active" or "away".
 *
 *     const activity = new Activity({ idleAfterMs: 60_000 })
 *     activity.onChange((status) => channel.push("status", { status }))
 *
 * Away is who has done nothing for `idleAfterMs`, or has hidden the page for `hiddenAfterMs`.
 */
export default class Activity extends Emitter {
  constructor({ idleAfterMs = 300_000, hiddenAfterMs = 30_000, page = globalThis.window } = {}) {
    super()
    this.state = "active"
    this.idleAfterMs = idleAfterMs
    this.hiddenAfterMs = hiddenAfterMs
    this.page = page
    this.callbacks = []
    this.seenAt = Date.now()
    this.isHidden = false
    this.timer = null
    this.saw = this.saw.bind(this)
    this.changed = this.changed.bind(this)
    for (const sign of SIGNS)
      page?.addEventListener(sign, this.saw, { passive: true, capture: true })
    page?.addEventListener("visibilitychange", this.changed)
    this.changed()
  }

  /** Call back with the state whenever it changes. Returns a function that ends it. */
  onChange(callback) {
    this.callbacks.push(callback)
    return () => (this.callbacks = this.callbacks.filter((each) => each !== callback))
  }

  stop() {
    clearTimeout(this.timer)
    for (const sign of SIGNS) this.page?.removeEventListener(sign, this.saw, { capture: true })
    this.page?.removeEventListener("visibilitychange", this.changed)
  }

  saw() {
    this.seenAt = Date.now()
    if (this.state === "away") this.become("active")
  }

  changed() {
    this.isHidden = this.page?.document?.visibilityState === "hidden"
    this.seenAt = Date.now()
    if (!this.isHidden) this.become("active")
    else this.wait()
  }

  become(state) {
    const isNew = state !== this.state
    this.state = state
    this.wait()
    if (!isNew) return
    for (const callback of this.callbacks) callback(state)
    this.emit("change", state)
  }

  /** Look again when somebody would be away, had nothing been done since. */
  wait() {
    clearTimeout(this.timer)
    if (this.state === "away") return
    const left = this.seenAt + (this.isHidden ? this.hiddenAfterMs : this.idleAfterMs) - Date.now()
    if (left <= 0) this.become("away")
    else this.timer = setTimeout(() => this.wait(), left)
  }
}
