// What the suite uses of node:assert/strict, for a browser.

const show = (value) => {
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return String(value)
  }
}

function check(holds, message, fallback) {
  if (!holds) throw new Error(message ?? fallback)
}

function isDeepEqual(one, other) {
  if (Object.is(one, other)) return true
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return false
  if (Object.getPrototypeOf(one) !== Object.getPrototypeOf(other)) return false
  if (one instanceof ArrayBuffer) {
    return isDeepEqual([...new Uint8Array(one)], [...new Uint8Array(other)])
  }
  const names = Object.keys(one)
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && isDeepEqual(one[name], other[name]))
  )
}

const assert = {
  ok: (value, message) => check(value, message, `${show(value)} is not true`),
  fail: (message) => check(false, message, "failed"),
  equal: (one, other, message) =>
    check(Object.is(one, other), message, `${show(one)} is not ${show(other)}`),
  notEqual: (one, other, message) => check(!Object.is(one, other), message, `${show(one)} twice`),
  deepEqual: (one, other, message) =>
    check(isDeepEqual(one, other), message, `${show(one)} is not ${show(other)}`),
  match: (text, pattern, message) =>
    check(pattern.test(text), message, `${text} does not match ${pattern}`),
  throws(run, expected) {
    try {
      run()
    } catch (error) {
      if (expected instanceof RegExp) return assert.match(String(error), expected)
      return assert.ok(!expected || error instanceof expected, `another error: ${error}`)
    }
    assert.fail("nothing was thrown")
  },
}

export default assert
