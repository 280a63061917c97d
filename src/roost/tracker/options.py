"""The periods of replication."""

from __future__ import annotations

import msgspec

from roost.exceptions import ConfigurationError

__all__ = ["ReplicationOptions"]


class ReplicationOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The periods of replication, in seconds; all nodes of a cluster have the same.

    Args:
        broadcast_period: Between two broadcasts of changes; the first goes out when the caller is
            idle.
        heartbeat_period: Between two heartbeats.
        repair_delay: How long a gap must last to be asked for.
        request_timeout: How long an answer may take before another node is asked; it doubles with
            each attempt, up to two heartbeats.
        probe_grace: How long a suspect has to answer.
        down_period: Silence after which a peer is down in any case.
        permdown_period: Silence after which it is forgotten.

    Raises:
        ConfigurationError: Periods that contradict each other, with the reason.
    """

    broadcast_period: float = 0.05
    heartbeat_period: float = 1.5
    repair_delay: float = 0.2
    request_timeout: float = 1.0
    probe_grace: float = 2.0
    down_period: float = 30.0
    permdown_period: float = 1_200.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if self.down_period < 2 * self.heartbeat_period:
            raise ConfigurationError(
                "down_period must be at least twice as large as heartbeat_period: "
                f"{self.down_period} and {self.heartbeat_period}"
            )
        if self.permdown_period <= self.down_period:
            raise ConfigurationError(
                "permdown_period must be larger than down_period: "
                f"{self.permdown_period} and {self.down_period}"
            )
        if self.broadcast_period > self.heartbeat_period:
            raise ConfigurationError(
                "broadcast_period must not be larger than heartbeat_period: "
                f"{self.broadcast_period} and {self.heartbeat_period}"
            )

    @property
    def max_request_timeout(self) -> float:
        """The longest that one request is waited for, jitter excluded."""
        return max(self.request_timeout, 2 * self.heartbeat_period)
