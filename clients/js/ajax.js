// HTTP for long-poll, and query strings.

const XHR_DONE = 4

/**
 * What sends requests: XDomainRequest or XMLHttpRequest where they exist, else fetch.
 *
 * `callback` gets the parsed JSON, or null if there was no answer or none that can be read.
 */
export default class Ajax {
  /** Send a request, and return what can `abort` it. */
  static request(method, url, headers, body, timeout, ontimeout, callback) {
    const { XDomainRequest, XMLHttpRequest, fetch, AbortController } = globalThis
    if (XDomainRequest) {
      const request = new XDomainRequest()
      return this.xdomainRequest(request, method, url, body, timeout, ontimeout, callback)
    }
    if (XMLHttpRequest) {
      const request = new XMLHttpRequest()
      return this.xhrRequest(request, method, url, headers, body, timeout, ontimeout, callback)
    }
    if (fetch && AbortController) {
      return this.fetchRequest(method, url, headers, body, timeout, ontimeout, callback)
    }
    throw new Error("No suitable XMLHttpRequest implementation found")
  }

  static xdomainRequest(request, method, url, body, timeout, ontimeout, callback) {
    request.timeout = timeout
    request.open(method, url)
    request.onload = () => callback?.(this.parseJSON(request.responseText))
    request.onprogress = () => {} // Internet Explorer 9 aborts without
    if (ontimeout) request.ontimeout = ontimeout
    request.send(body)
    return request
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
    const timer = timeout && setTimeout(() => controller.abort(), timeout)
    const answer = async () => {
      try {
        const response = await globalThis.fetch(url, { method, headers, body, signal: controller.signal })
        return this.parseJSON(await response.text())
      } catch (error) {
        if (error.name === "AbortError" && ontimeout) return ontimeout
        return null
      } finally {
        clearTimeout(timer)
      }
    }
    // Outside of the `try`: what the callback throws is no failure of the request.
    answer().then((result) => (result === ontimeout && ontimeout ? ontimeout() : callback?.(result)))
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
