"""Presence without a line in the channels: every topic that a client is in is tracked by itself.

It follows Drab's ``Drab.Presence``; where the key comes from is looked up anew for each topic, in
the order given. A value of None or False counts as missing, and what is found nowhere is the
browser's id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID
from weakref import WeakKeyDictionary

from roost.aliases import Meta
from roost.channels.channel import Channel
from roost.exceptions import AlreadyTracked, ConfigurationError, InvalidKey, JoinRefused
from roost.presence.presence import Presence

__all__ = ["KeySource", "TrackJoins"]

KeySource: TypeAlias = tuple[Literal["store", "session", "assigns", "params"], str]
"""Where a key may come from: a place, and its name there."""


class TrackJoins:
    """Track channels in ``presence`` when they join, and in what they subscribe to.

    Give it to a ``Socket`` for all of its channels, or to one ``Channel``. An exception of
    ``track`` refuses the join, a ``JoinRefused`` with its payload.

    Args:
        presence: Where to track; the endpoint runs it.
        id: Where the key comes from, the first that is found: ``("store", name)`` is
            ``socket.store``, ``("session", name)`` the session, ``("assigns", name)`` the channel's
            assigns, ``("params", name)`` the parameters of the join, or else of the connect. A
            name alone is one of the session. A function of the channel returns the key, or None.
            What is found is text, an integer or a UUID; what is found nowhere is
            ``socket.browser_id``. Only the client vouches for that one and for ``params``.
        push_state: Push the client the list of the channel's topic once it has joined.
        meta: A function of the channel that returns the meta; by default
            ``{"online_at": unix seconds}``.

    Raises:
        ConfigurationError: An ``id`` that names no source, or no presence.

    Example:
        >>> online = Presence()
        >>> class RoomChannel(Channel):
        ...     presence = TrackJoins(online, id=[("store", "user_id"), ("session", "user_id")])
    """

    def __init__(
        self,
        presence: Presence,
        *,
        id: str | Sequence[KeySource | str] | Callable[[Channel[Any]], object] = (),
        push_state: bool = False,
        meta: Callable[[Channel[Any]], Meta] | None = None,
    ) -> None:
        if not isinstance(presence, Presence):
            raise ConfigurationError(
                f"{presence!r} can't track joins: expected an instance of Presence, as in "
                "TrackJoins(online)"
            )
        self.presence = presence
        self._find = id if callable(id) else _Finder(id)
        self._pushes_state = push_state
        self._meta = meta
        # Keys of topics subscribed to, since what they were found by may change before the stop.
        self._keys: WeakKeyDictionary[Channel[Any], dict[str, Any]] = WeakKeyDictionary()

    def start(self, channel: Channel[Any], topic: str) -> None:
        """Track ``channel`` in ``topic``; a key that it tracks there already is left as it is."""
        key = self._key(channel)
        is_own = topic == channel.topic
        if is_own and self._pushes_state:
            # Before track, so that it runs before the diff is sent: the state has it already.
            channel.spawn(self._push_state(channel))
        meta = None if self._meta is None else self._meta(channel)
        try:
            self.presence.track(channel, key, meta, topic=topic)
        except AlreadyTracked:
            pass
        if not is_own:
            self._keys.setdefault(channel, {})[topic] = key

    def stop(self, channel: Channel[Any], topic: str) -> None:
        """Untrack in ``topic`` the key that ``start`` tracked."""
        key = self._keys.get(channel, {}).pop(topic, None)
        self.presence.untrack(channel, self._key(channel) if key is None else key, topic=topic)

    def _key(self, channel: Channel[Any]) -> Any:
        """What to track, which ``track`` makes a key of, or refuses."""
        found = self._find(channel)
        if found is None or found is False:
            return _from_client(channel, channel.socket.browser_id)
        return str(found) if isinstance(found, UUID) else found

    async def _push_state(self, channel: Channel[Any]) -> None:
        if not channel.is_joined:  # a loop with eager tasks: the reply is written in this tick
            await asyncio.sleep(0)
        await self.presence.push_state(channel)


class _Finder:
    """Look into the sources in their order."""

    def __init__(self, sources: str | Sequence[KeySource | str]) -> None:
        entries = [sources] if isinstance(sources, str) else sources
        self._sources = [_checked(entry) for entry in entries]

    def __call__(self, channel: Channel[Any]) -> object:
        for source, name in self._sources:
            value = _LOOK_UP[source](channel, name)
            if value is not None and value is not False:
                return value
        return None


def _checked(entry: object) -> tuple[str, str]:
    """A source and a name; raises with the reason if it can't be one."""
    match entry:
        case str(name) if name and name not in _LOOK_UP:
            return "session", name
        case (str(source), str(name)) if source in _LOOK_UP and name:
            return source, name
    raise ConfigurationError(
        f"{entry!r} does not say where a key comes from: expected (source, name), as in "
        f"id=[('session', 'user_id')], with a source of {', '.join(_LOOK_UP)}; or the name of a "
        "session value alone"
    )


def _in_session(channel: Channel[Any], name: str) -> Any:
    session = channel.socket.session
    return None if session is None else session.get(name)


def _in_assigns(channel: Channel[Any], name: str) -> Any:
    assigns = channel.assigns
    return assigns.get(name) if isinstance(assigns, Mapping) else getattr(assigns, name, None)


def _in_params(channel: Channel[Any], name: str) -> Any:
    """What the client says: it is refused if that can't be a key, which is no mistake of ours."""
    params: Mapping[str, Any] = channel.join_params
    if not isinstance(params, Mapping) or name not in params:
        params = channel.socket.params
    value = params.get(name)
    if value is None or value is False:
        return None
    return _from_client(channel, value)


def _from_client(channel: Channel[Any], key: Any) -> str:
    try:
        return channel._runner.name_limits.key(key)
    except InvalidKey as error:
        raise JoinRefused({"reason": "invalid key"}) from error


_LOOK_UP: Final[dict[str, Callable[[Channel[Any], str], Any]]] = {
    "store": lambda channel, name: channel.socket.store.get(name),
    "session": _in_session,
    "assigns": _in_assigns,
    "params": _in_params,
}
