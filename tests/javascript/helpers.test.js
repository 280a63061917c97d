import assert from "node:assert/strict"
import { test } from "node:test"
import { Activity, browserId, identity, reloaded, Socket, tabId } from "./client.js"
import { FakePage, FakeStorage, fakeWorld, noted } from "./fakes.js"

const world = fakeWorld()

test("a browser keeps its id", () => {
  const storage = new FakeStorage()
  const id = browserId(storage)
  assert.match(id, /^[\w-]{30,}$/)
  assert.equal(browserId(storage), id)
  assert.notEqual(browserId(new FakeStorage()), id)
})

test("a tab keeps its id when it is reloaded", async () => {
  const storage = new FakeStorage()
  const id = tabId(storage, world.page)
  assert.equal(tabId(storage, world.page), id)
  world.page.tell("pagehide")
  const again = await reloaded("ids.js")

  assert.equal(again.tabId(storage, new FakePage()), id)
})

test("a copy of a tab gets an id of its own, as it finds none in its copy of the storage", async () => {
  const storage = new FakeStorage()
  const { tabId } = await reloaded("ids.js")
  const page = new FakePage()
  tabId(storage, page)
  assert.deepEqual(storage.values, {})
  page.tell("pagehide")
  page.tell("pageshow")
  assert.deepEqual(storage.values, {})
  page.tell("pagehide")
  const again = await reloaded("ids.js")
  again.tabId(storage, new FakePage())

  assert.deepEqual(storage.values, {})
})

test("a socket sends both ids with identity as its params", () => {
  const url = new URL(new Socket("ws://x/s", { params: identity }).endPointURL())

  assert.ok(url.searchParams.get("browser_id"))
  assert.equal(url.searchParams.get("tab_id"), tabId())
})

test("who does nothing for a while is away, and back with the first sign", () => {
  const states = noted()
  const activity = new Activity({ idleAfterMs: 1_000 })
  const end = activity.onChange(states)
  const events = noted()
  activity.addEventListener("change", ({ detail }) => events(detail))
  world.clock.advance(900)
  world.page.tell("keydown")
  world.clock.advance(900)
  assert.equal(activity.state, "active")
  world.clock.advance(100)
  assert.equal(activity.state, "away")
  world.page.tell("pointermove")
  assert.deepEqual(states.calls, [["away"], ["active"]])
  end()
  world.clock.advance(1_000)

  assert.equal(states.calls.length, 2)
  assert.deepEqual(events.calls, [["away"], ["active"], ["away"]])
})

test("who hides the page for a while is away, and back when it is seen", () => {
  const states = noted()
  const activity = new Activity({ hiddenAfterMs: 50 })
  activity.onChange(states)
  world.page.hides()
  world.clock.advance(49)
  assert.equal(states.calls.length, 0)
  world.clock.advance(1)
  world.page.shows()

  assert.deepEqual(states.calls, [["away"], ["active"]])
})

test("an activity that is stopped says nothing more", () => {
  const states = noted()
  const activity = new Activity({ idleAfterMs: 1_000 })
  activity.onChange(states)
  activity.stop()
  world.page.hides()
  world.clock.advance(100_000)

  assert.equal(states.calls.length, 0)
  assert.equal(world.clock.timers.size, 0)
})
