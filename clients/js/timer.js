/**
 * A timer that waits longer from try to try.
 *
 *     const timer = new Timer(() => connect(), (tries) => [1000, 5000][tries - 1] || 10_000)
 *     timer.scheduleTimeout() // connects in 1 s; the next time in 5 s
 *     timer.reset() // waits 1 s again
 */
export default class Timer {
  constructor(callback, timerCalc) {
    this.callback = callback
    this.timerCalc = timerCalc
    this.timer = null
    this.tries = 0
  }

  /** Stop, and begin the tries anew. */
  reset() {
    this.tries = 0
    clearTimeout(this.timer)
  }

  /** Start to wait, in place of what is being waited for. */
  scheduleTimeout() {
    clearTimeout(this.timer)
    this.timer = setTimeout(
      () => {
        this.tries++
        this.callback()
      },
      this.timerCalc(this.tries + 1),
    )
  }
}
