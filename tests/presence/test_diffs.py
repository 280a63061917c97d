"""One walk through the log of a topic yields the diffs for all versions that are held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from roost.channels.application import Contained
from roost.crdt.entry import Entry
from roost.presence.notifying.diffs import AsTracked, Fetched, MemberEncoder, encode_diffs
from roost.strict_json import JsonEncoder
from roost.tracker.feed import TopicFeed


def entry(key: str, seq: int) -> Entry:
    return Entry("room:1", key, b'{"phx_ref":"r%x"}' % seq, 1, "r", seq)


def diffs(
    feed: TopicFeed, *versions: int, encode: MemberEncoder | None = None
) -> dict[int, tuple[list[str], list[str]] | None]:
    """By version: the refs that join and that leave, in their order; None for no diff."""
    end = feed.take()
    changes = feed.changes(min(versions), end)
    found: dict[int, tuple[list[str], list[str]] | None] = {}
    for version, payload in encode_diffs(changes, versions, encode or AsTracked()):
        if payload is None:
            found[version] = None
        else:
            diff = msgspec.json.decode(payload)
            found[version] = refs(diff["joins"]), refs(diff["leaves"])
    return found


def refs(side: dict[str, Any]) -> list[str]:
    return [meta["phx_ref"] for member in side.values() for meta in member["metas"]]


ALICE, BOB = entry("alice", 1), entry("bob", 2)


def test_each_version_has_the_diff_from_it_to_the_end():
    """What it has already is left out; who came and went since is in none."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.join(BOB, 2)
    feed.leave(ALICE, 3)

    assert diffs(feed, 3, 2, 1, 0) == {
        3: None,
        2: ([], ["r1"]),
        1: (["r2"], ["r1"]),
        0: (["r2"], []),
    }


def test_a_diff_is_in_the_order_of_arrival():
    """Of the keys, and of the metas of one key, on both sides."""
    feed = TopicFeed()
    arrivals = [ALICE, entry("alice", 2), entry("bob", 3), entry("carol", 4)]
    for version, each in enumerate(arrivals, 1):
        feed.join(each, version)
    assert diffs(feed, 0) == {0: (["r1", "r2", "r3", "r4"], [])}

    for version, each in enumerate(arrivals, 5):
        feed.leave(each, version)
    assert diffs(feed, 4) == {4: ([], ["r1", "r2", "r3", "r4"])}


def test_a_member_is_encoded_anew_only_where_it_differs():
    """A thousand who came one after the other cost about as much as one diff with all of them."""
    feed = TopicFeed()
    for seq in range(1, 1_001):
        feed.join(entry(f"user:{seq}", seq), seq)
    encoded: list[str] = []

    def encode(key: str, entries: Sequence[Entry], /) -> bytes:
        encoded.append(key)
        return AsTracked()(key, entries)

    found = diffs(feed, *range(999, -1, -100), encode=encode)

    assert [len(each[0]) for each in found.values() if each] == [*range(1, 1_000, 100)]
    assert len(encoded) == 901


def fetched(presences: Any, *asked: str) -> Fetched:
    def fetch() -> None: ...

    return Fetched(presences, asked, JsonEncoder(), Contained(fetch))


def test_who_was_not_asked_for_is_shown_as_tracked():
    """Of whom ``fetch`` was asked and made nothing, nothing is told; others are told bare."""
    feed = TopicFeed()
    feed.join(ALICE, 1)
    feed.join(BOB, 2)
    feed.join(entry("carol", 3), 3)
    known = {"alice": {"metas": [{"phx_ref": "r1"}], "name": "Alice"}}

    assert diffs(feed, 0, encode=fetched(known, "r1", "r2")) == {0: (["r1", "r3"], [])}


def test_where_fetch_shows_nobody_nothing_is_told():
    """A diff without anybody is none."""
    feed = TopicFeed()
    feed.join(ALICE, 1)

    assert diffs(feed, 0, encode=fetched({}, "r1")) == {0: None}
