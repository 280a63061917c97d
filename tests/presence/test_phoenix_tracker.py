"""What Phoenix's own tests of its tracker state about one node; of several: tests/tracker.

Where Phoenix has a pool of shards, roost has one tracker: a topic's changes cost the same however
many others there are.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from roost import Endpoint, PubSub, Tracker
from roost.exceptions import NotStarted
from roost.presence import Lease
from roost.testing import ChannelCase
from tests.presence.somebody import TOPIC
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
