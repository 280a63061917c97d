"""What applications see of roost: documented, typed, and clear about mistakes at the place."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pydoc
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest

import roost
from roost import (
    Channel,
    Endpoint,
    Mount,
    Presence,
    PubSub,
    Route,
    Socket,
    TrackJoins,
    event,
    intercept,
)
from roost.exceptions import ConfigurationError

MODULES = [
    "roost",
    "roost.aliases",
    "roost.asgi",
    "roost.channels",
    "roost.client",
    "roost.client.blocking",
    "roost.exceptions",
    "roost.presence",
    "roost.pubsub",
    "roost.testing",
    "roost.tokens",
]


def public() -> Iterator[Any]:
    """All that these modules offer, classes with their methods."""
    for name in MODULES:
        module = importlib.import_module(name)
        for each in module.__all__:
            thing = getattr(module, each)
            if not inspect.isclass(thing):
                if inspect.isfunction(thing):
                    yield pytest.param(thing, id=f"{name}.{each}")
                continue
            yield pytest.param(thing, id=f"{name}.{each}")
            for attribute, value in vars(thing).items():
                if attribute.startswith("_") and attribute != "__init__":
                    continue
                function = getattr(value, "__func__", getattr(value, "fget", value))
                if inspect.isfunction(function):
                    yield pytest.param(function, id=f"{name}.{each}.{attribute}")


@pytest.mark.parametrize("thing", list(public()))
def test_type_hints_resolve_at_run_time(thing: Any):
    """What reads hints at run time, as web frameworks do, finds every type."""
    get_type_hints(thing)


@pytest.mark.parametrize("name", roost.__all__)
def test_help_has_a_page_for_everything(name: str):
    """``help()`` has a page for everything."""
    assert getattr(roost, name).__doc__.split("\n")[0] in pydoc.render_doc(getattr(roost, name))


class UserSocket(Socket):
    channels = {"room:*": Channel}


def declare_without_a_name(decorator: Any) -> None:
    class RoomChannel(Channel):
        @decorator  # type: ignore[untyped-decorator]
        def shout(self, payload: Any) -> None: ...


wrong: list[tuple[Callable[[], object], str]] = [
    (lambda: declare_without_a_name(event), r'shout: write @event\("shout"\)'),
    (lambda: declare_without_a_name(intercept), r'shout: write @intercept\("shout"\)'),
    (lambda: event(any_(7)), "event: expected text, got int"),
    (lambda: Endpoint({"/": any_(UserSocket())}), "expected a subclass of Socket"),
    (lambda: Endpoint({"/": any_(Channel)}), "expected a subclass of Socket"),
    (lambda: Endpoint({"/": Mount(any_(UserSocket()))}), "expected a subclass of Socket"),
    (lambda: Endpoint({"socket": UserSocket}), 'must begin with "/", as in "/socket"'),
    (lambda: Endpoint({}, presences=[any_(Presence)]), r"as in presences=\[Online\(\)\]"),
    (lambda: Endpoint({}, pubsub=any_("redis://db")), r"as in PubSub\(url\)"),
    (lambda: Route(any_(Channel())), "expected a subclass of Channel"),
    (lambda: TrackJoins(any_(Presence)), r"as in TrackJoins\(online\)"),
    (lambda: Route(any_(UserSocket)), "expected a subclass of Channel"),
]


def any_(value: Any) -> Any:
    return value


@pytest.mark.parametrize(("make", "sentence"), wrong, ids=range(len(wrong)))
def test_mistakes_in_a_declaration(make: Callable[[], object], sentence: str):
    """They are named where they are made, with what was expected."""
    with pytest.raises(ConfigurationError, match=sentence):
        make()


async def test_who_can_own_a_presence():
    """The key in the owner's place, above all, is named at once."""
    online = Presence()
    sentence = r"can't own a presence.* an asyncio\.Task, or a lease"
    async with online.running(PubSub()):
        for owner in ("me", 7, None, Channel, Socket(), asyncio.sleep):
            for call in (online.track, online.untrack):
                with pytest.raises(TypeError, match=sentence):
                    call(any_(owner), "alice", topic="room:1")
            with pytest.raises(TypeError, match=sentence):
                online.update(any_(owner), "alice", {}, topic="room:1")
        assert await online.list("room:1") == {}
