"""What an application's presence says, as the modules see it that carry it out."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from roost.aliases import Presences
from roost.presence.changes import Join, Leave, Update
from roost.presence.last_seen import LastSeenStore
from roost.presence.policy import Policy
from roost.pubsub.registry import Subscription
from roost.wire.messages import Broadcast

__all__ = ["PresenceDefinition"]


class PresenceDefinition(Protocol):
    """Options and callbacks; ``Presence`` says what each is for."""

    name: str

    @property
    def fetch_timeout(self) -> float: ...
    @property
    def fetch_ttl(self) -> float: ...
    @property
    def max_diff_count(self) -> int: ...
    @property
    def last_seen_store(self) -> LastSeenStore | None: ...
    @property
    def state_event(self) -> str: ...
    @property
    def diff_event(self) -> str: ...
    @property
    def count_event(self) -> str: ...

    def defines(self, name: str, /) -> bool:
        """Whether an application's class defines one of the callbacks."""
        ...

    def fetch(self, topic: str, presences: Presences, /) -> Presences | Awaitable[Presences]: ...
    def policy(self, topic: str, /) -> Policy: ...
    def on_join(self, join: Join, /) -> Awaitable[None] | None: ...
    def on_update(self, update: Update, /) -> Awaitable[None] | None: ...
    def on_leave(self, leave: Leave, /) -> Awaitable[None] | None: ...
    def init(self) -> Any: ...
    def handle_metas(
        self,
        topic: str,
        diff: Mapping[str, Presences],
        presences: Mapping[str, Sequence[Mapping[str, Any]]],
        state: Any,
        /,
    ) -> Any: ...
    def dispatch(self, subscriptions: Sequence[Subscription], message: Broadcast, /) -> None: ...
