"""What Phoenix's own tests of its tracker state about one node; of several: tests/tracker.

Where Phoenix has a pool of shards, roost has one tracker: a topic's changes cost the same however
many others there are.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from roost import AlreadyTracked, Endpoint, NotTracked, PubSub, Tracker
from roost.exceptions import NotStarted
from roost.presence import Lease
from roost.testing import ChannelCase
from tests.presence.somebody import TOPIC, somebody
from tests.virtual_clock import virtually

TOPICS: Final = [f"room:{n}" for n in range(100)]


class Diffs(Tracker):
    """Notes its diffs and messages as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.diffs: list[Any] = []
        self.messages: list[Any] = []

    def handle_diff(self, diff: Any) -> Any:
        self.diffs.append(diff)

    def handle_info(self, message: Any) -> Any:
        self.messages.append(message)


async def diffs_of(tracker: Diffs) -> list[Any]:
    """The diffs since the last call."""
    await tracker.settled()
    diffs, tracker.diffs = tracker.diffs, []
    return diffs


def everywhere(tracker: Tracker) -> tuple[Lease, dict[str, str]]:
    """Somebody in a hundred topics, and their ref in each."""
    owner = Lease(tracker, TOPIC, "alice")
    refs = {topic: tracker.track(owner, "alice", {"n": 1}, topic=topic) for topic in TOPICS}
    return owner, refs


# The tracker itself.


@pytest.mark.conforms("TRK-1")
@virtually
async def test_a_tracker_needs_no_more_than_to_be_named_in_its_endpoint():
    """An instance in ``Endpoint(trackers=[…])`` runs while the endpoint does."""
    jobs = Diffs()
    async with ChannelCase(Endpoint({}, trackers=[jobs])):
        assert jobs.list(TOPIC) == []

    with pytest.raises(NotStarted):
        jobs.list(TOPIC)


@pytest.mark.conforms("POOL-7")
@virtually
async def test_a_tracker_that_starts_again_is_empty():
    """A stop ends the tracker with all that it tracks, and what starts afterwards is new."""
    jobs = Diffs()
    async with jobs.running(PubSub()):
        everywhere(jobs)

    async with jobs.running(PubSub()):
        assert [jobs.list(topic) for topic in TOPICS] == [[]] * 100


# Many topics.


@pytest.mark.conforms("POOL-1")
@virtually
async def test_what_is_tracked_is_listed_with_its_ref():
    """The meta in the list carries the ref that track returned."""
    async with Diffs().running(PubSub()) as jobs:
        ref = jobs.track(Lease(jobs, TOPIC, "alice"), "alice", {"n": 1}, topic=TOPIC)

        assert jobs.list(TOPIC) == [("alice", {"n": 1, "phx_ref": ref})]


@pytest.mark.conforms("POOL-2")
@virtually
async def test_one_owner_may_be_in_a_hundred_topics():
    """Each of the topics lists it, with the ref that it has there."""
    async with Diffs().running(PubSub()) as jobs:
        _, refs = everywhere(jobs)

        assert len(set(refs.values())) == 100
        for topic, ref in refs.items():
            assert jobs.list(topic) == [("alice", {"n": 1, "phx_ref": ref})]


@pytest.mark.conforms("POOL-3")
@virtually
async def test_untracking_one_topic_after_the_other_empties_each():
    """An untrack empties its own topic, and leaves those that follow as they are."""
    async with Diffs().running(PubSub()) as jobs:
        owner, _ = everywhere(jobs)

        for count, topic in enumerate(TOPICS, start=1):
            jobs.untrack(owner, "alice", topic=topic)
            assert [len(jobs.list(each)) for each in TOPICS] == [0] * count + [1] * (100 - count)


@pytest.mark.conforms("POOL-4")
@virtually
async def test_untracking_an_owner_empties_all_its_topics():
    """Nothing that it tracked is left in any of a hundred topics."""
    async with Diffs().running(PubSub()) as jobs:
        owner, _ = everywhere(jobs)

        jobs.untrack_all(owner)

        assert [jobs.list(topic) for topic in TOPICS] == [[]] * 100


@pytest.mark.conforms("POOL-5")
@virtually
async def test_an_update_has_a_new_ref_and_names_the_old_one():
    """In each topic the meta is the new one, with its ref, and the ref of the one before it."""
    async with Diffs().running(PubSub()) as jobs:
        owner, old = everywhere(jobs)

        new = {topic: jobs.update(owner, "alice", {"n": 2}, topic=topic) for topic in TOPICS}

        for topic in TOPICS:
            assert new[topic] != old[topic]
            meta = {"n": 2, "phx_ref": new[topic], "phx_ref_prev": old[topic]}
            assert jobs.list(topic) == [("alice", meta)]


@pytest.mark.conforms("POOL-6")
@virtually
async def test_an_update_by_a_function_has_a_new_ref_and_names_the_old_one():
    """The function gets the meta of its topic, and the refs are those of any update."""
    async with Diffs().running(PubSub()) as jobs:
        owner, old = everywhere(jobs)

        new = {
            topic: jobs.update(owner, "alice", lambda meta: {"was": meta["phx_ref"]}, topic=topic)
            for topic in TOPICS
        }

        for topic in TOPICS:
            meta = {"was": old[topic], "phx_ref": new[topic], "phx_ref_prev": old[topic]}
            assert jobs.list(topic) == [("alice", meta)]


# What is reported, and what is refused.


@pytest.mark.conforms("REP-8")
@virtually
async def test_untracking_nothing_is_no_error():
    """Neither a key nor an owner need be there, and nothing is reported."""
    async with Diffs().running(PubSub()) as jobs:
        owner = Lease(jobs, TOPIC, "alice")

        jobs.untrack(owner, "alice", topic=TOPIC)
        jobs.untrack_all(owner)

        assert await diffs_of(jobs) == []


@pytest.mark.conforms("REP-9")
@virtually
async def test_an_owner_is_held_to_its_other_presences():
    """One untrack removes one presence; the owner's end removes what is left, if anything is."""
    async with Diffs().running(PubSub()) as jobs:
        owner, other = Lease(jobs, TOPIC, "alice"), Lease(jobs, TOPIC, "alice")
        for each in (owner, other):
            jobs.track(each, "alice", {}, topic="room:1")
            jobs.track(each, "alice", {}, topic="room:2")
        jobs.untrack(owner, "alice", topic="room:1")
        jobs.untrack(other, "alice", topic="room:1")
        jobs.untrack(other, "alice", topic="room:2")
        assert (len(jobs.list("room:1")), len(jobs.list("room:2"))) == (0, 1)
        await diffs_of(jobs)

        other.end()
        assert await diffs_of(jobs) == []
        owner.end()

        (diff,) = await diffs_of(jobs)
        assert {topic: len(leaves) for topic, (_, leaves) in diff.items()} == {"room:2": 1}
        assert jobs.list("room:2") == []


@pytest.mark.conforms("REP-10")
@virtually
async def test_untracking_an_owner_reports_its_leaves_and_nothing_later():
    """One diff has all its presences, and its end afterwards has none."""
    async with Diffs().running(PubSub()) as jobs:
        owner = somebody(jobs, "alice", "room:1")
        jobs.track(owner, "alice", {}, topic="room:2")
        bob = somebody(jobs, "bob", "room:1")
        await diffs_of(jobs)

        jobs.untrack_all(owner)
        (diff,) = await diffs_of(jobs)
        owner.end()

        assert {topic: [key for key, _ in leaves] for topic, (_, leaves) in diff.items()} == {
            "room:1": ["alice"],
            "room:2": ["alice"],
        }
        assert await diffs_of(jobs) == []
        assert [key for key, _ in jobs.list("room:1")] == [bob.key]


@pytest.mark.conforms("REP-11")
@virtually
async def test_an_update_is_a_join_and_a_leave():
    """It reports the new meta, which names the old ref, and the old meta."""
    async with Diffs().running(PubSub()) as jobs:
        owner = Lease(jobs, TOPIC, "alice")
        old = jobs.track(owner, "alice", {"n": 1}, topic=TOPIC)
        await diffs_of(jobs)

        new = jobs.update(owner, "alice", {"n": 2}, topic=TOPIC)

        joined = ("alice", {"n": 2, "phx_ref": new, "phx_ref_prev": old})
        assert await diffs_of(jobs) == [{TOPIC: ([joined], [("alice", {"n": 1, "phx_ref": old})])}]
        assert jobs.list(TOPIC) == [joined]


@pytest.mark.conforms("REP-12")
@virtually
async def test_an_update_by_a_function_may_keep_other_fields():
    """What the function leaves as it is stays, and the reports are those of any update."""
    async with Diffs().running(PubSub()) as jobs:
        owner = Lease(jobs, TOPIC, "alice")
        old = jobs.track(owner, "alice", {"n": 1, "browser": "firefox"}, topic=TOPIC)
        await diffs_of(jobs)

        new = jobs.update(owner, "alice", lambda meta: {**meta, "n": 2}, topic=TOPIC)

        joined = {"n": 2, "browser": "firefox", "phx_ref": new, "phx_ref_prev": old}
        left = {"n": 1, "browser": "firefox", "phx_ref": old}
        assert await diffs_of(jobs) == [{TOPIC: ([("alice", joined)], [("alice", left)])}]


@pytest.mark.conforms("REP-13")
@virtually
async def test_an_update_of_nothing_is_refused():
    """Who is not tracked cannot be updated, by a meta or a function, and nothing is reported."""
    async with Diffs().running(PubSub()) as jobs:
        owner = Lease(jobs, TOPIC, "alice")

        with pytest.raises(NotTracked):
            jobs.update(owner, "alice", {}, topic=TOPIC)
        with pytest.raises(NotTracked):
            jobs.update(owner, "alice", lambda meta: meta, topic=TOPIC)

        assert await diffs_of(jobs) == []


@pytest.mark.conforms("REP-14")
@virtually
async def test_one_owner_tracks_a_key_once_in_a_topic():
    """The second time is refused, also after an update; another topic, key or owner is fine."""
    async with Diffs().running(PubSub()) as jobs:
        owner = somebody(jobs, "alice")
        owner.update({"n": 2})

        with pytest.raises(AlreadyTracked) as already:
            jobs.track(owner, "alice", {"n": 3}, topic=TOPIC)
        assert (already.value.topic, already.value.key) == (TOPIC, "alice")
        assert [meta["n"] for meta in jobs.get_by_key(TOPIC, "alice")] == [2]

        jobs.track(owner, "alice", {}, topic="room:2")
        jobs.track(owner, "bob", {}, topic=TOPIC)
        somebody(jobs, "alice")


# Messages.


@pytest.mark.conforms("REP-17")
@virtually
async def test_what_handle_info_returns_is_not_looked_at():
    """Where Phoenix crashes on a return it does not know, a tracker goes on with what it has."""

    class Strange(Diffs):
        def handle_info(self, message: Any) -> Any:
            super().handle_info(message)
            return "what is this?"

    async with Strange().running(PubSub()) as jobs:
        somebody(jobs, "alice")
        jobs.send(1)
        jobs.send(2)
        await jobs.settled()

        assert jobs.messages == [1, 2]
        assert [key for key, _ in jobs.list(TOPIC)] == ["alice"]


@pytest.mark.conforms("REP-18")
@virtually
async def test_a_message_is_handled():
    """``handle_info`` gets what was sent; what it awaits is awaited."""

    class Slow(Diffs):
        async def handle_info(self, message: Any) -> None:
            await asyncio.sleep(1)
            self.messages.append(message)

    async with Slow().running(PubSub()) as jobs:
        jobs.send("ping")
        assert jobs.messages == []
        await jobs.settled()

        assert jobs.messages == ["ping"]
