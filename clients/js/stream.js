// Channels and presences as what a `for await` reads.

const MAX_UNREAD = 1000 // messages that nobody has read yet

/** The payloads of an event, until the channel closes. */
export function messages(channel, event, { limit = MAX_UNREAD } = {}) {
  return new Stream(channel, limit, (add) => {
    const ref = channel.on(event, add)
    return () => channel.off(event, ref)
  })
}

/** The list of a presence after each change, until its channel closes; slow readers skip some. */
export function lists(presence, by) {
  return new Stream(presence.channel, 1, (add) => {
    const listener = () => add(presence.list(by))
    presence.addEventListener("sync", listener)
    return () => presence.removeEventListener("sync", listener)
  })
}

/**
 * Values for one `for await`, in the order in which they came.
 *
 * Of what nobody has read yet, the newest `limit` are kept; `dropped` counts the others.
 */
class Stream {
  constructor(channel, limit, start) {
    this.limit = limit
    this.dropped = 0
    this.ended = false
    this.values = []
    this.readers = []
    const ref = channel.onClose(() => this.end())
    const stop = start((value) => this.add(value))
    this.stop = () => {
      channel.off("phx_close", ref)
      stop()
    }
    if (channel.joinedOnce && channel.isClosed()) this.end()
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
    this.stop()
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
