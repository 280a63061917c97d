/**
 * Values for one `for await`, in the order in which they came.
 *
 * Of what nobody has read yet, the newest `limit` are kept; `dropped` counts the others.
 */
export default class Stream {
  /**
   * @param {number} limit
   * @param {(stream: Stream) => () => void} start begins to `add`, and returns what stops it
   */
  constructor(limit, start) {
    this.limit = limit
    this.dropped = 0
    this.ended = false
    this.values = []
    this.readers = []
    this.stop = start(this)
  }

  add(value) {
    if (this.ended) return
    if (this.readers.length) return this.readers.shift()({ value, done: false })
    this.values.push(value)
    if (this.values.length > this.limit) {
      this.values.shift()
      this.dropped++
    }
  }

  /** Add nothing more; what is there is still read. */
  end() {
    if (this.ended) return
    this.ended = true
    this.stop?.()
    for (const resolve of this.readers) resolve({ value: undefined, done: true })
  }

  next() {
    if (this.values.length) return Promise.resolve({ value: this.values.shift(), done: false })
    if (this.ended) return Promise.resolve({ value: undefined, done: true })
    return new Promise((resolve) => this.readers.push(resolve))
  }

  return() {
    this.values = []
    this.end()
    return this.next()
  }

  [Symbol.asyncIterator]() {
    return this
  }
}
