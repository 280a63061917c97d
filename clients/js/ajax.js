// HTTP for long-poll, and query strings.

const XHR_DONE = 4

/**
 * What sends requests: XMLHttpRequest where it exists, else fetch.
 *
 * `callback` gets the parsed JSON, or null if there was no answer or none that can be read.
 */
export default class Ajax {
  /** Send a request, and return what can `abort` it. */
  static request(...args) {
    const { XMLHttpRequest, fetch, AbortController } = globalThis
    if (XMLHttpRequest) return this.xhrRequest(new XMLHttpRequest(), ...args)
    if (fetch && AbortController) return this.fetchRequest(...args)
    throw new Error("No suitable XMLHttpRequest implementation found")
  }

  static xhrRequest(request, method, url, headers, body, timeout, ontimeout, callback) {
    request.open(method, url, true)
    request.timeout = timeout
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.onerror = () => callback?.(null)
    request.onreadystatechange = () => {
      if (request.readyState === XHR_DONE) callback?.(this.parseJSON(request.responseText))
    }
    if (ontimeout) request.ontimeout = ontimeout
    request.send(body)
    return request
  }

  static fetchRequest(method, url, headers, body, timeout, ontimeout, callback) {
    const controller = new AbortController()
    const { signal } = controller
    const timer = timeout && setTimeout(() => controller.abort(), timeout)
    globalThis
      .fetch(url, { method, headers, body, signal })
      .then((response) => response.text())
      .then(
        (text) => () => callback?.(this.parseJSON(text)),
        ({ name }) => (name === "AbortError" && ontimeout) || (() => callback?.(null)),
      )
      .then((end) => {
        clearTimeout(timer)
        end() // what it throws is no failure of the request
      })
    return controller
  }

  static parseJSON(text) {
    if (!text) return null
    try {
      return JSON.parse(text)
    } catch {
      console.log("failed to parse JSON response", text)
      return null
    }
  }

  /** Make a query string; what is nested becomes `a[b]=c` and `a[0]=b`. */
  static serialize(params, parent) {
    return Object.keys(params ?? {})
      .map((name) => {
        const key = parent ? `${parent}[${name}]` : name
        const value = params[name]
        if (typeof value === "object") return this.serialize(value, key)
        return `${encodeURIComponent(key)}=${encodeURIComponent(value)}`
      })
      .join("&")
  }

  static appendParams(url, params) {
    if (Object.keys(params).length === 0) return url
    return `${url}${url.includes("?") ? "&" : "?"}${this.serialize(params)}`
  }
}
