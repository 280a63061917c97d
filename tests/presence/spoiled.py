"""Recorded histories of clients, and what may be wrong with them.

A history is what happened to one client in order: what its page did, what arrived, and when it was
checked, with what was right then. It can be played again without a server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec

from roost.testing.transport import Received
from roost.wire.messages import COUNT, DIFF, STATE, Broadcast, Message
from tests.models.phoenix_presence import ClientPresence, Entry, HandWrittenPresence
from tests.presence.phoenix_client import PhoenixClient
from tests.presence.plain_model import Model

__all__ = ["Arrived", "Checked", "Did", "History", "RecordingClient", "Replay", "spoiled"]


class Did(msgspec.Struct, frozen=True):
    """The page did something."""

    method: str
    args: tuple[Any, ...] = ()


class Arrived(msgspec.Struct, frozen=True):
    """A frame of the server arrived."""

    received: Any

    @property
    def is_about_presences(self) -> bool:
        return isinstance(self.received, Message | Broadcast) and self.received.event in (
            STATE,
            DIFF,
            COUNT,
        )


class Checked(msgspec.Struct, frozen=True):
    """Nothing had changed for a while, and the client was looked at."""

    model: Any
    refs: Any
    fetches: bool

    @classmethod
    def of(cls, model: Model, refs: Mapping[str, set[str]], *, fetches: bool) -> Checked:
        """With a copy of what is right, and of all that ever was."""
        held = [replace(each) for each in model.held]
        copies = {topic: set(refs[topic]) for topic in refs}
        return cls(Model(model.policies, held), copies, fetches)


Event = Did | Arrived | Checked
History = Sequence[Event]


class RecordingClient(PhoenixClient):
    """A client that keeps its history."""

    def __init__(self, *args: Any) -> None:
        self.history: list[Event] = []
        super().__init__(*args)

    def join(self) -> None:
        self._did("join")
        super().join()

    def leave_and_come_back(self) -> None:
        self._did("leave_and_come_back")
        length = len(self.history)
        super().leave_and_come_back()
        del self.history[length:]  # what it does by itself

    def lose_connection(self) -> None:
        self._did("lose_connection")
        length = len(self.history)
        super().lose_connection()
        del self.history[length:]

    def push(self, event: str, payload: Any) -> None:
        self._did("push", event, payload)
        super().push(event, payload)

    def receive(self, received: Received) -> None:
        self.history.append(Arrived(deepcopy(received)))
        super().receive(received)

    def _did(self, method: str, *args: Any) -> None:
        self.history.append(Did(method, args))


class _Nowhere:
    def close(self, *args: object) -> None:
        pass


class Replay(PhoenixClient):
    """A client that lives a history.

    Args:
        client: Whose history it is.

    Attributes:
        told: What its page was told, in order: ``(channel object, "join" or "leave", ref)``.
        complaints: What its page was told that made no sense to it.
    """

    def __init__(self, client: PhoenixClient) -> None:
        self.told: list[tuple[int, str, str]] = []
        self._object_number = 0
        self.complaints: list[str] = []
        nowhere: Any = None
        super().__init__(nowhere, nowhere, client.topic, Random(0), client.params, client.rules)

    def _make_presence(self) -> ClientPresence | HandWrittenPresence:
        presence = super()._make_presence()
        self._object_number += 1
        hear, hear_leave = presence.on_join, presence.on_leave
        assert hear is not None
        assert hear_leave is not None

        def on_join(key: str, current: Entry | None, joined: Entry) -> None:
            hear(key, current, joined)
            self._on_join(key, current, joined)

        def on_leave(key: str, current: Entry, left: Entry) -> None:
            hear_leave(key, current, left)
            self._on_leave(key, current, left)

        presence.on_join, presence.on_leave = on_join, on_leave
        return presence

    def connect(self) -> None:
        self._link = self._connection = _Nowhere()  # type: ignore[assignment]

    def _send(self, join_ref: str | None, ref: str, event: str, payload: Any) -> None:
        pass

    def _on_join(self, key: str, current: Entry | None, joined: Entry) -> None:
        known = {meta["phx_ref"] for meta in (current or {"metas": []})["metas"]}
        for meta in joined["metas"]:
            self.told.append((self._object_number, "join", meta["phx_ref"]))
            if meta["phx_ref"] in known:
                self.complaints.append(f"{key} joined again as {meta['phx_ref']}")

    def _on_leave(self, key: str, current: Entry, left: Entry) -> None:
        last = {ref: what for number, what, ref in self.told if number == self._object_number}
        for meta in left["metas"]:
            self.told.append((self._object_number, "leave", meta["phx_ref"]))
            if last.get(meta["phx_ref"]) != "join":
                self.complaints.append(f"{key} left as {meta['phx_ref']}, which was not there")

    def live(self, history: History, check: Any) -> str | None:
        """Live it; return what the checker complains of first, None if nothing."""
        for event in history:
            match event:
                case Did(method, args):
                    getattr(self, method)(*args)
                case Arrived(received):
                    self.receive(deepcopy(received))
                case Checked(model, refs, fetches):
                    try:
                        check(
                            SimpleNamespace(model=model, refs=refs, fetches=fetches),
                            self,
                            "the client",
                        )
                    except AssertionError as error:
                        return str(error) or "it shows something else"
        return None


# What may be wrong.


def spoiled(history: History, other: History, rng: Random) -> Iterator[tuple[str, History]]:
    """The history with one thing wrong, in every way that there is at some place of it.

    The client is looked at after that, before it makes a new channel object: what nobody looks at
    could be anything.

    Args:
        history: Of one client.
        other: Of another client of the same topic, for what reaches the wrong one.
        rng: Chooses the place.
    """
    places = _places(history)
    if not places:
        return
    at = rng.choice(places)
    yield "dropped", [*history[:at], *history[at + 1 :]]
    yield "doubled", [*history[: at + 1], *history[at:]]
    later = places[places.index(at) + 1 :]
    if later:
        swapped = list(history)
        swapped[at], swapped[later[0]] = swapped[later[0]], swapped[at]
        yield "swapped", swapped
        late = [*history[:at], *history[at + 1 : later[0] + 1], history[at]]
        yield "delayed", [*late, *history[later[0] + 1 :]]
    changed = _changed(history[at], rng)
    if changed is not None:
        yield "changed", [*history[:at], changed, *history[at + 1 :]]
    foreign = [event for event in other if _is_presence(event)]
    if foreign:
        yield "moved", [*history[:at], rng.choice(foreign), *history[at:]]


def _places(history: History) -> list[int]:
    places: list[int] = []
    waiting: list[int] = []
    for number, event in enumerate(history):
        match event:
            case Checked():
                places += waiting
                waiting = []
            case Did("leave_and_come_back"):
                waiting = []
            case Arrived() if event.is_about_presences:
                waiting.append(number)
    return places


def _is_presence(event: Event) -> bool:
    return isinstance(event, Arrived) and event.is_about_presences


def _changed(event: Event, rng: Random) -> Event | None:
    """The same message with another ref, or another count."""
    assert isinstance(event, Arrived)
    received = deepcopy(event.received)
    payload = received.payload
    if received.event == COUNT:
        payload["users"] += 1
        return Arrived(received)
    sides = [payload] if received.event == STATE else [payload["joins"], payload["leaves"]]
    metas = [meta for side in sides for entry in side.values() for meta in entry["metas"]]
    if not metas:
        return None
    rng.choice(metas)["phx_ref"] += "x"
    return Arrived(received)
