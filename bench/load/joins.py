"""Clients that connect and join: alone, together, in many rooms, and all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic

from bench.load.crowd import Crowd, Entry
from bench.load.rolls import Reader, Roll
from bench.load.shares import Shares, Watch
from bench.load.target import Measured, Target, entry

__all__ = ["hundred_rooms", "join", "many_rooms", "one_room", "reconnect", "settle"]

AT_ONCE = 100  # clients that are connecting or joining
SETTLE_PERIOD = 0.3  # seconds in which a message comes that should not
PATIENCE = 60.0  # seconds for all clients


def settle(crowd: Crowd, period: float = SETTLE_PERIOD) -> None:
    """Receive what still comes."""
    until = monotonic() + period
    while (rest := until - monotonic()) > 0:
        crowd.step(rest)


def join(target: Target, count: int, *, presence: bool) -> Measured:
    """Each connects and joins a topic of its own; with presence, until it sees itself."""
    reader = Reader()
    kind = "room" if presence else "plain"

    def entries() -> Iterable[Entry]:
        for number in range(count):
            user, topic = f"u{number}", f"{kind}:{number}"
            if presence:
                roll = Roll(reader, topic, user)
                yield entry(target, user, [topic], roll.receive, roll.is_in)
            else:
                yield entry(target, user, [topic])

    with Crowd(target.url) as crowd:
        with Watch(target.pids) as watch:
            crowd.connect_all(entries(), at_once=AT_ONCE, timeout=PATIENCE)
        settle(crowd)
    return _joined(count, watch.shares)


def _joined(count: int, shares: Shares) -> Measured:
    figures = {"joins/s": count / shares.duration, "CPU for each, µs": shares.cpu_for_each(count)}
    return Measured(figures, shares)


def _rooms(target: Target, room_count: int, size: int) -> tuple[list[Entry], list[list[Roll]]]:
    """The clients of some rooms, in turns, and their lists by room."""
    reader = Reader()
    reader.goal = size
    kind = "room" if target.has_presence else "plain"
    rolls: list[list[Roll]] = [[] for _ in range(room_count)]
    entries = []
    for number in range(room_count * size):
        room = number % room_count
        topic, user = f"{kind}:{room}", f"u{number}"
        roll = Roll(reader, topic, user)
        rolls[room].append(roll)
        entries.append(entry(target, user, [topic], roll.receive if target.has_presence else None))
    return entries, rolls


def _wait_for_lists(crowd: Crowd, rolls: Sequence[Sequence[Roll]]) -> None:
    """All see exactly those who are there."""

    def is_done() -> bool:
        while waiting and len(waiting[-1].listed) == size:
            waiting.pop()
        return not waiting

    size = len(rolls[0])
    waiting = [roll for room in rolls for roll in room]
    crowd.run(is_done, PATIENCE, "not all lists are complete")


def _check_lists(rolls: Sequence[Sequence[Roll]]) -> None:
    for room in rolls:
        keys = [roll.key for roll in room]
        for roll in room:
            roll.check(room[0], keys)


def many_rooms(target: Target, room_count: int, size: int = 10) -> Measured:
    """Connect and join ``size`` clients to each room, until each lists exactly its room."""
    entries, rolls = _rooms(target, room_count, size)
    with Crowd(target.url) as crowd:
        with Watch(target.pids) as watch:
            crowd.connect_all(entries, at_once=AT_ONCE, timeout=PATIENCE)
            if target.has_presence:
                _wait_for_lists(crowd, rolls)
        settle(crowd)
        if target.has_presence:
            _check_lists(rolls)
    return _joined(len(entries), watch.shares)


def one_room(target: Target, size: int) -> Measured:
    """All in the same room."""
    return many_rooms(target, 1, size)


def hundred_rooms(target: Target, client_count: int, room_count: int = 100) -> Measured:
    """Few clients join many topics each, one after the other: joins without connections."""
    kind = "room" if target.has_presence else "plain"
    with Crowd(target.url) as crowd:
        clients = crowd.connect_all(entry(target, f"u{n}", []) for n in range(client_count))
        before = crowd.over_count
        with Watch(target.pids) as watch:
            for number, client in enumerate(clients):
                topics = [f"{kind}:{number}-{room}" for room in range(room_count)]
                client.talk(entry(target, "", topics, greets=False).conversation)
            crowd.run(
                lambda: crowd.over_count - before == client_count, PATIENCE, "not all have joined"
            )
        settle(crowd)
    return _joined(client_count * room_count, watch.shares)


def reconnect(target: Target, room_count: int, size: int = 10) -> Measured:
    """All clients of the rooms lose their connections, and are back at once.

    Until all have joined and, with presence, list each other as they are now.
    """
    entries, rolls = _rooms(target, room_count, size)
    with Crowd(target.url) as crowd:
        clients = crowd.connect_all(entries, at_once=AT_ONCE, timeout=PATIENCE)
        if target.has_presence:
            _wait_for_lists(crowd, rolls)
        settle(crowd)
        entries, rolls = _rooms(target, room_count, size)
        with Watch(target.pids) as watch:
            crowd.close(clients)
            crowd.connect_all(entries, at_once=len(entries), timeout=PATIENCE)
            if target.has_presence:
                _wait_for_lists(crowd, rolls)
        settle(crowd)
        if target.has_presence:
            _check_lists(rolls)
    duration, cpu = watch.shares.duration, watch.shares.cpu_for_each(len(entries))
    figures = {"s": duration, "clients/s": len(entries) / duration, "CPU for each, µs": cpu}
    return Measured(figures, watch.shares)
