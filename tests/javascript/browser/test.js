// What the suite uses of node:test, for a browser.

const tests = []
const before = []
const after = []

export const test = (name, run) => tests.push({ name, run })
export const beforeEach = (hook) => before.push(hook)
export const afterEach = (hook) => after.push(hook)

/** Run all tests, and return `[name, error or null]` for each. */
export async function runAll() {
  const results = []
  for (const { name, run } of tests) {
    let error = null
    try {
      for (const hook of before) await hook()
      await run()
    } catch (thrown) {
      error = String(thrown?.stack ?? thrown)
    }
    for (const hook of after) await hook()
    results.push([name, error])
  }
  return results
}
