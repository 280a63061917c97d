"""The checkers of the load tests refuse traffic that is spoiled in one place.

Real traffic of a small run is recorded, spoiled, and checked again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from bench.load import fanout, presence
from bench.load.expected import Lost, Stream
from bench.load.rolls import Reader, Roll
from bench.servers.catalog import BARE, ROOST
from bench.servers.process import Server, start
from tests.models.phoenix_presence import ClientPresence

COUNT = 10  # clients
SPOIL_COUNT = 100

# Broadcasts, byte by byte.


class Expected(msgspec.Struct, frozen=True):
    message: bytes


class Chunk(msgspec.Struct, frozen=True):
    client: int
    data: bytes


Traffic = Sequence[Expected | Chunk]


@pytest.fixture(scope="module")
def broadcasts() -> Traffic:
    """What ten clients of one room received of its messages."""
    traffic: list[Expected | Chunk] = []

    class Recording(Stream):
        def expect(self, message: bytes) -> None:
            traffic.append(Expected(bytes(message)))
            super().expect(message)

        def receiver(self, client: int) -> Callable[[bytes], None]:
            receive = super().receiver(client)

            def recorded(data: bytes) -> None:
                traffic.append(Chunk(client, bytes(data)))
                receive(data)

            return recorded

    with pytest.MonkeyPatch.context() as patch, start(BARE) as target:
        patch.setattr(fanout, "Stream", Recording)
        fanout.closed_loop(target, COUNT, 4, 0.1)
    return traffic


def is_refused(traffic: Traffic) -> bool:
    """Whether a stream complains, or waits for more in the end."""
    size = next(len(each.message) for each in traffic if isinstance(each, Expected))
    stream = Stream(size, COUNT)
    receivers = [stream.receiver(client) for client in range(COUNT)]
    try:
        for each in traffic:
            if isinstance(each, Expected):
                stream.expect(each.message)
            else:
                receivers[each.client](each.data)
    except Lost:
        return True
    return not stream.is_complete


def received(traffic: Traffic) -> list[bytes]:
    """All bytes of each client."""
    found = [bytearray() for _ in range(COUNT)]
    for each in traffic:
        if isinstance(each, Chunk):
            found[each.client] += each.data
    return [bytes(each) for each in found]


def spoil_chunk(traffic: Traffic, what: str, rng: Random) -> Traffic:
    at = rng.choice([n for n, each in enumerate(traffic) if isinstance(each, Chunk)])
    chunk = traffic[at]
    assert isinstance(chunk, Chunk)
    spoiled = list(traffic)
    match what:
        case "dropped":
            del spoiled[at]
        case "doubled":
            spoiled.insert(at, chunk)
        case "swapped":
            later = [
                n
                for n, each in enumerate(traffic)
                if n > at and isinstance(each, Chunk) and each.client == chunk.client
            ]
            if later:
                spoiled[at], spoiled[later[0]] = spoiled[later[0]], spoiled[at]
        case "changed":
            place = rng.randrange(len(chunk.data))
            data = bytearray(chunk.data)
            data[place] ^= 1 << rng.randrange(8)
            spoiled[at] = Chunk(chunk.client, bytes(data))
        case "moved":
            spoiled[at] = Chunk((chunk.client + 1) % COUNT, chunk.data)
    return spoiled


@pytest.mark.parametrize("what", ["dropped", "doubled", "swapped", "changed", "moved"])
def test_spoiled_broadcasts_are_refused(what: str, broadcasts: Traffic):
    """Whatever is wrong with one chunk of one client, unless its bytes are the same as before."""
    assert not is_refused(broadcasts)
    right, rng, refused = received(broadcasts), Random(what), 0
    for _ in range(SPOIL_COUNT):
        spoiled = spoil_chunk(broadcasts, what, rng)
        if received(spoiled) == right:  # two chunks that are alike, or the last of a client
            assert what == "swapped"
            continue
        assert is_refused(spoiled)
        refused += 1

    assert refused > SPOIL_COUNT / 2


# Lists of presences.


class Received(msgspec.Struct, frozen=True):
    roll: int
    message: bytes


class Checked(msgspec.Struct, frozen=True):
    roll: int
    other: int
    keys: Sequence[str]


Events = Sequence[Received | Checked]


def storm(server: Server) -> Events:
    """What everybody received while ten came to ten, and went."""
    events: list[Received | Checked] = []
    rolls: list[Roll] = []

    def number(roll: Roll) -> int:
        if roll not in rolls:
            rolls.append(roll)
        return rolls.index(roll)

    class Recording(Roll):
        __slots__ = ()

        def receive(self, message: bytes) -> None:
            if b'"presence_' in message[:300]:
                events.append(Received(number(self), bytes(message)))
            super().receive(message)

        def check(self, others: Roll, keys: Iterable[str]) -> None:
            events.append(Checked(number(self), number(others), list(keys)))
            super().check(others, keys)

    with pytest.MonkeyPatch.context() as patch, start(server) as target:
        patch.setattr(presence, "Roll", Recording)
        presence.storm(target, COUNT)
    return events


@pytest.fixture(scope="module")
def lists() -> Events:
    return storm(ROOST)


def is_list_refused(events: Events) -> bool:
    reader = Reader()
    rolls = [Roll(reader, presence.TOPIC, f"u{n}") for n in range(2 * COUNT)]
    try:
        for each in events:
            if isinstance(each, Received):
                rolls[each.roll].receive(each.message)
            else:
                rolls[each.roll].check(rolls[each.other], each.keys)
    except Lost:
        return True
    return False


def shown(events: Events) -> list[Any]:
    """What pages with phoenix.js show whenever they are looked at."""
    pages = [ClientPresence(lambda: "1") for _ in range(2 * COUNT)]
    looks: list[Any] = []
    for each in events:
        if isinstance(each, Received):
            _, _, topic, event, payload = msgspec.json.decode(each.message)
            if topic != presence.TOPIC:
                continue
            page = pages[each.roll]
            (page.receive_state if event == "presence_state" else page.receive_diff)(payload)
        else:
            state = pages[each.roll].state
            looks.append({(key, meta["phx_ref"]) for key in state for meta in state[key]["metas"]})
    return looks


def spoil_list(events: Events, what: str, rng: Random) -> Events:
    at = rng.choice([n for n, each in enumerate(events) if isinstance(each, Received)])
    event = events[at]
    assert isinstance(event, Received)
    spoiled = list(events)
    match what:
        case "dropped":
            del spoiled[at]
        case "doubled":
            spoiled.insert(at, event)
        case "swapped":
            later = [
                n
                for n, each in enumerate(events)
                if n > at and isinstance(each, Received) and each.roll == event.roll
            ]
            if later:
                spoiled[at], spoiled[later[0]] = spoiled[later[0]], spoiled[at]
        case "changed":
            message = msgspec.json.decode(event.message)
            payload = message[4]
            sides = [payload] if message[3] == "presence_state" else list(payload.values())
            metas = [meta for side in sides for entry in side.values() for meta in entry["metas"]]
            if metas:
                rng.choice(metas)["phx_ref"] += "x"
            spoiled[at] = Received(event.roll, msgspec.json.encode(message))
        case "moved":
            spoiled[at] = Received((event.roll + 1) % (2 * COUNT), event.message)
    return spoiled


@pytest.mark.parametrize("what", ["dropped", "doubled", "swapped", "changed", "moved"])
def test_spoiled_lists_are_refused(what: str, lists: Events):
    """A list is refused whenever a page would show another one, by phoenix.js's own rules.

    A page would not if a state that follows has it all, if the same is told twice, or if two diffs
    are about others.
    """
    assert not is_list_refused(lists)
    right, rng, refused = shown(lists), Random(what), 0
    for _ in range(SPOIL_COUNT):
        spoiled = spoil_list(lists, what, rng)
        is_other = shown(spoiled) != right
        assert is_list_refused(spoiled) is is_other
        refused += is_other

    assert refused or what == "doubled"
