"""What is measured: the list of scenarios, and how large they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.load import fanout, joins, presence
from bench.load.memory import memory
from bench.load.target import Measured, Target

__all__ = ["SCENARIOS", "Scale", "Scenario"]


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        join_count: Clients that join a topic of their own.
        fan_count: Sockets that get each message.
        ping_count: Sockets that ping.
        storm_count: Those in the room, and as many again that join it.
        room_count: Rooms of ten.
        crowd_size: Clients that join one room.
        topical_count: Clients in a hundred rooms each.
        lost_count: Rooms of ten whose clients all reconnect.
        idle_count: Idle connections.
        most_count: Idle connections, if there are many.
        process_count: Client processes that the idle ones are spread over.
        duration: Seconds in which rates are counted.
    """

    join_count: int = 2_000
    fan_count: int = 1_000
    ping_count: int = 100
    storm_count: int = 500
    room_count: int = 1_000
    crowd_size: int = 1_000
    topical_count: int = 100
    lost_count: int = 100
    idle_count: int = 5_000
    most_count: int = 18_000
    process_count: int = 5
    duration: float = 2.0


@dataclass(frozen=True)
class Scenario:
    """One thing that is measured.

    Args:
        name: To choose it by.
        title: Of its table.
        main: The figure whose ratios are shown.
        run: Does it.
        more_is_better: Of the main figure.
        needs_presence: Servers without presence can't do it.
        only_once: Its figures hardly differ from round to round.
        beside: The scenario whose figure stands for servers that can't do this one, in ratios.
        is_throughput: A figure of a generator that is the bottleneck is refused.
    """

    name: str
    title: str
    main: str
    run: Callable[[Target, Scale], Measured]
    more_is_better: bool = True
    needs_presence: bool = False
    only_once: bool = False
    beside: str | None = None
    is_throughput: bool = True


SCENARIOS: Final = (
    Scenario(
        "join-presence",
        "Connect and join with presence, own topic each",
        "joins/s",
        lambda target, scale: joins.join(target, scale.join_count, presence=True),
        needs_presence=True,
        beside="join",
    ),
    Scenario(
        "join",
        "Connect and join without presence, own topic each",
        "joins/s",
        lambda target, scale: joins.join(target, scale.join_count, presence=False),
    ),
    Scenario(
        "fan-1",
        "Fan-out of 100 bytes, one outstanding",
        "deliveries/s",
        lambda target, scale: fanout.closed_loop(target, scale.fan_count, 1, scale.duration),
    ),
    Scenario(
        "fan-16",
        "Fan-out of 100 bytes, 16 outstanding",
        "deliveries/s",
        lambda target, scale: fanout.closed_loop(target, scale.fan_count, 16, scale.duration),
    ),
    Scenario(
        "fan-open",
        "Fan-out of 100 bytes at half load, open loop",
        "p99, ms",
        lambda target, scale: fanout.open_loop(target, scale.fan_count, scale.duration),
        more_is_better=False,
    ),
    Scenario(
        "ping",
        "Ping round trips",
        "round trips/s",
        lambda target, scale: fanout.ping(target, scale.ping_count, scale.duration),
    ),
    Scenario(
        "storm",
        "Presence storm and mass leave",
        "join: s",
        lambda target, scale: presence.storm(target, scale.storm_count),
        more_is_better=False,
        needs_presence=True,
        is_throughput=False,  # what a busy generator makes longer: the server is faster than that
    ),
    Scenario(
        "one-room",
        "Connect and join one room",
        "joins/s",
        lambda target, scale: joins.one_room(target, scale.crowd_size),
    ),
    Scenario(
        "many-rooms",
        "Connect and join rooms of ten",
        "joins/s",
        lambda target, scale: joins.many_rooms(target, scale.room_count),
    ),
    Scenario(
        "hundred-rooms",
        "Join a hundred topics each",
        "joins/s",
        lambda target, scale: joins.hundred_rooms(target, scale.topical_count),
    ),
    Scenario(
        "reconnect",
        "Reconnect storm: all at once, rooms of ten",
        "clients/s",
        lambda target, scale: joins.reconnect(target, scale.lost_count),
    ),
    Scenario(
        "memory",
        "Memory per idle joined connection",
        "kB each",
        lambda target, scale: memory(target, scale.idle_count, scale.process_count),
        more_is_better=False,
        only_once=True,
        is_throughput=False,
    ),
    Scenario(
        "memory-most",
        "Memory per idle joined connection, many of them",
        "kB each",
        lambda target, scale: memory(target, scale.most_count, scale.process_count),
        more_is_better=False,
        only_once=True,
        is_throughput=False,
    ),
)
