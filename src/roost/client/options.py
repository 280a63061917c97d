"""How patient a client is, and what it keeps."""

from __future__ import annotations

import math
from random import Random
from typing import Final

import msgspec

from roost.exceptions import ConfigurationError

__all__ = ["RECONNECT_DELAYS", "REJOIN_DELAYS", "Options", "delay_of"]

# Seconds before the first, second, … attempt; the last goes on for ever. As in phoenix.js.
RECONNECT_DELAYS: Final = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
REJOIN_DELAYS: Final = (1.0, 2.0, 5.0, 10.0)

_POSITIVE: Final = (
    "open_timeout",
    "join_timeout",
    "push_timeout",
    "heartbeat_interval",
    "heartbeat_timeout",
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a client is, and what it keeps; seconds and counts.

    Args:
        open_timeout: Of one attempt to connect, with what is asked for before it.
        join_timeout: Of a join, unless it is given its own.
        push_timeout: From a push to its reply, unless it is given its own.
        heartbeat_interval: Between two heartbeats. Servers close what is silent for 60 s (Phoenix)
            or ask for one each 25 s (Supabase).
        heartbeat_timeout: For the reply to a heartbeat; without it the connection is given up.
        reconnect_delays: Before the attempts to connect again, one after the other; the last one
            goes on for ever.
        rejoin_delays: The same for a channel that ended in an error, while connected.
        jitter: Each delay is longer or shorter by up to this part of it, at random, so that the
            clients of a server that restarts don't come back in step.
        stable_after: A connection that lasted so long is followed by the first delay again.
        max_refusals: How many refusals in a row end a channel, or the client, that was accepted
            before. None: never.
        max_buffer_count: How many pushes of a channel may wait to be sent.

    Raises:
        ConfigurationError: Values that can't work.
    """

    open_timeout: float = 10.0
    join_timeout: float = 10.0
    push_timeout: float = 10.0
    heartbeat_interval: float = 25.0
    heartbeat_timeout: float = 10.0
    reconnect_delays: tuple[float, ...] = RECONNECT_DELAYS
    rejoin_delays: tuple[float, ...] = REJOIN_DELAYS
    jitter: float = 0.5
    stable_after: float = 10.0
    max_refusals: int | None = 5
    max_buffer_count: int = 1_000

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigurationError(f"{name} must be a positive number of seconds")
        for name in ("reconnect_delays", "rejoin_delays"):
            delays = getattr(self, name)
            if not delays or not all(0 <= delay < math.inf for delay in delays):
                raise ConfigurationError(f"{name} must be some numbers of seconds, got {delays!r}")
        if not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"jitter must be between 0 and 1, got {self.jitter!r}")
        if not 0 <= self.stable_after < math.inf:
            raise ConfigurationError("stable_after must be a number of seconds")
        if self.max_refusals is not None and self.max_refusals < 1:
            raise ConfigurationError("max_refusals must be at least 1, or None")
        if self.max_buffer_count < 1:
            raise ConfigurationError("max_buffer_count must be at least 1")


def delay_of(tries: int, delays: tuple[float, ...], jitter: float, rng: Random) -> float:
    """Seconds before an attempt.

    Args:
        tries: Which attempt it is; 1 is the first.
        delays: One for each attempt; the last goes on for ever.
        jitter: Part of the delay by which it may be longer or shorter.
        rng: Where chance comes from.

    Example:
        >>> [delay_of(tries, (1.0, 2.0, 5.0), 0.0, Random(1)) for tries in (1, 2, 3, 4)]
        [1.0, 2.0, 5.0, 5.0]
    """
    delay = delays[min(tries, len(delays)) - 1]
    return delay * (1 + jitter * (2 * rng.random() - 1))
