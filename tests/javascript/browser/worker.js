// Runs one file of the suite where there is no window, so that the tests can make one up.

import { runAll } from "./test.js"

const file = new URL(self.location.href).searchParams.get("file")
try {
  await import(`../${file}.test.js`)
  self.postMessage(await runAll())
} catch (error) {
  self.postMessage([["the file does not even run", String(error?.stack ?? error)]])
}
