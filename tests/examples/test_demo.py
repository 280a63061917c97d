"""The server of the demo: what it asks the database, what it refuses, and how it is started."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.demo import board
from examples.demo.app import UserSocket, app, endpoint
from examples.demo.online import online, people
from roost import JoinRefused
from roost.testing import ChannelCase, JoinedCase

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def case() -> AsyncIterator[ChannelCase]:
    """The demo without a network, with an empty board."""
    async with ChannelCase(endpoint) as case:
        yield case
        await online.settled()
    board.notes.clear()


@pytest.fixture
def queries() -> Iterator[list[str]]:
    """Every query that reaches SQLite."""
    queries: list[str] = []
    people.connection.set_trace_callback(queries.append)
    yield queries
    people.connection.set_trace_callback(None)


async def join(case: ChannelCase, topic: str, name: str) -> JoinedCase:
    """Connect a client of its own, and join."""
    client = await case.connect(UserSocket)
    return await client.join(topic, {"name": name, "friends": []})


async def enter(case: ChannelCase, name: str) -> JoinedCase:
    """Enter the lobby, and wait until everybody was told."""
    room = await join(case, "room:lobby", name)
    await room.assert_push("presence_state")
    await online.settled()
    return room


def come(*names: str) -> None:
    """Let people come into the lobby in one tick, until the test ends."""
    task = asyncio.current_task()
    assert task is not None
    for name in names:
        online.track(task, name, {}, topic="room:lobby")


# People, from SQLite.


async def test_a_list_takes_one_query(case: ChannelCase, queries: list[str]):
    """A list is fetched for all its keys at once."""
    come("Alice", "Bob", "Mallory", "Oscar")
    await online.settled()
    queries.clear()

    listed = await online.list("room:lobby")

    assert listed.keys() == {"Alice", "Bob", "Mallory", "Oscar"}
    assert len(queries) == 1


async def test_a_diff_takes_one_query(case: ChannelCase, queries: list[str]):
    """A diff is fetched for all who came at once, whoever is told."""
    alice, bob = [await enter(case, name) for name in ("Alice", "Bob")]
    queries.clear()

    come("Carol", "Mallory", "Oscar")
    for client in (alice, bob):
        await client.assert_push("presence_diff", where=lambda diff: len(diff["joins"]) == 3)

    assert len(queries) == 1


async def test_going_away_is_an_update(case: ChannelCase, queries: list[str]):
    """Who goes away is told as one diff with the presence as it was and is, and one query."""
    alice = await enter(case, "Alice")
    queries.clear()

    await alice.assert_reply(alice.push("status", {"status": "away"}), "ok")
    diff = await alice.assert_push("presence_diff", where=lambda diff: diff["leaves"] != {})

    (meta,), (old_meta,) = diff["joins"]["Alice"]["metas"], diff["leaves"]["Alice"]["metas"]
    assert (old_meta["status"], meta["status"]) == ("online", "away")
    assert meta["phx_ref_prev"] == old_meta["phx_ref"]
    assert len(queries) == 1


async def test_who_comes_back_away_is_away(case: ChannelCase):
    """A tab that joins again says what it was, so that nobody sees it awake in between."""
    client = await case.connect(UserSocket)
    alice = await client.join("room:lobby", {"name": "Alice", "status": "away"})

    listed = await alice.assert_push("presence_state")

    assert listed["Alice"]["metas"][0]["status"] == "away"


async def test_the_known_have_a_role_and_a_portrait(case: ChannelCase):
    """Whoever is in the table is shown as the table says, however the name is written."""
    come("Alice", "bob")

    listed = await online.list("room:lobby")

    assert listed["Alice"]["user"] == {"role": "host", "hue": 168, "avatar": "/avatars/Alice.svg"}
    assert listed["bob"]["user"]["role"] == "moderator"
    assert listed["bob"]["user"]["avatar"] == "/avatars/Bob.svg"


async def test_the_unknown_are_guests(case: ChannelCase):
    """Whoever is not in the table is a guest, whatever the name."""
    come("Robert'); DROP TABLE people;--", "Alice\0", "%")

    for entry in (await online.list("room:lobby")).values():
        assert entry["user"]["role"] == "guest"
        assert entry["user"]["avatar"] is None
        assert 0 <= entry["user"]["hue"] < 360


async def test_portraits_are_served_as_images():
    """The portrait of a known person is an SVG; others have none."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        known = await client.get("/avatars/Alice.svg")
        unknown = await client.get("/avatars/Mallory.svg")

    assert known.headers["content-type"] == "image/svg+xml"
    assert known.text.startswith("<svg")
    assert unknown.status_code == 404


# Bad input.


@pytest.mark.parametrize(
    ("topic", "params", "reason"),
    [
        ("room:lobby", {}, "The name is empty."),
        ("room:lobby", {"name": "  "}, "The name is empty."),
        ("room:lobby", {"name": ["Alice"]}, "The name is empty."),
        ("room:lobby", {"name": "o" * 41}, "The name is longer than 40 characters."),
        ("room:lobby", {"name": "__proto__"}, "JavaScript keeps for itself"),
        ("room:lobby", {"name": "Ali\0ce"}, "characters that can't be seen"),
        ("room:lobby", {"name": "\u202eecilA"}, "characters that can't be seen"),
        ("room:lobby", {"name": "Alice\u200b"}, "characters that can't be seen"),
        ("room:lobby", {"name": "Alice\nBob"}, "characters that can't be seen"),
        ("room:lobby", {"name": "\u200d"}, "characters that can't be seen"),
        ("board:main", {"name": "Ali\u2066ce"}, "characters that can't be seen"),
        ("friends:me", {"name": "Alice", "friends": ["Bob\x7f"]}, "characters that can't be seen"),
        ("visitors", {"id": "\0"}, "The id has characters that can't be seen."),
        ("room:cellar", {"name": "Alice"}, "There is no room cellar."),
        ("board:main", {"name": 7}, "The name is empty."),
        ("friends:me", {"name": "Alice"}, "The friends must be a list of names."),
        ("friends:me", {"name": "Alice", "friends": "Bob"}, "must be a list"),
        ("friends:me", {"name": "Alice", "friends": [7]}, "The name is empty."),
        ("friends:me", {"name": "Alice", "friends": ["Bob"] * 51}, "more than 50 friends"),
        ("visitors", {"id": ""}, "The id is empty."),
    ],
)
async def test_a_join_is_refused_in_words(
    case: ChannelCase, topic: str, params: dict[str, Any], reason: str
):
    """A join with bad parameters is refused with a reason that the page can show."""
    client = await case.connect(UserSocket)

    with pytest.raises(JoinRefused) as refused:
        await client.join(topic, params)

    assert reason in refused.value.payload["reason"]


@pytest.mark.parametrize(
    ("topic", "event", "payload", "reason"),
    [
        ("room:lobby", "shout", {"message": "  "}, "The message is empty."),
        ("room:lobby", "shout", ["Hello"], "The message is empty."),
        ("room:lobby", "shout", {"message": "o" * 501}, "longer than 500 characters"),
        ("room:lobby", "status", {"status": "asleep"}, "must be one of: online, away."),
        ("room:lobby", "status", {"status": {}}, "must be one of: online, away."),
        ("board:main", "point", {"x": 0.5}, "y must be a number from 0 to 1."),
        ("board:main", "point", {"x": 1.5, "y": 0}, "x must be a number from 0 to 1."),
        ("board:main", "point", {"x": True, "y": 0}, "x must be a number from 0 to 1."),
        ("board:main", "move", {"id": 99, "x": 0, "y": 0}, "Somebody has removed this note."),
        ("board:main", "write", {"id": [], "text": ""}, "Somebody has removed this note."),
        ("board:main", "remove", None, "Somebody has removed this note."),
        ("friends:me", "follow", {"friends": {"Bob": 1}}, "must be a list of names."),
    ],
)
async def test_a_message_is_refused_in_words(
    case: ChannelCase, topic: str, event: str, payload: Any, reason: str
):
    """A bad message costs its sender an error reply, and the channel goes on."""
    alice = await join(case, topic, "Alice")

    reply = await alice.assert_reply(alice.push(event, payload), "error")

    assert reason in reply["reason"]
    assert alice.channel.is_joined


async def test_the_board_is_full_at_its_bound(case: ChannelCase):
    """One note more than the board holds is refused, until somebody removes one."""
    alice = await join(case, "board:main", "Alice")
    for _ in range(board.MAX_NOTES):
        added = await alice.assert_reply(alice.push("add", {"x": 0, "y": 0}), "ok")

    refused = await alice.assert_reply(alice.push("add", {"x": 0, "y": 0}), "error")
    await alice.assert_reply(alice.push("remove", {"id": added["id"]}), "ok")

    assert "remove one" in refused["reason"]
    await alice.assert_reply(alice.push("add", {"x": 0, "y": 0}), "ok")


# Friends and visitors.


async def test_a_friend_is_followed_from_place_to_place(case: ChannelCase):
    """Who follows somebody is told where they are, and going elsewhere is not going offline."""
    alice = await join(case, "friends:me", "Alice")
    await alice.assert_push("friends", {"places": {}})
    await alice.assert_reply(alice.push("follow", {"friends": ["Bob"]}), "ok")
    await alice.assert_push("friends", {"places": {}, "users": {"Bob": {"role": "moderator"}}})

    lobby = await join(case, "room:lobby", "Bob")
    news = {"name": "Bob", "places": ["room:lobby"], "is_online": True}
    await alice.assert_push("friend", news)
    await lobby.client.join("friends:me", {"name": "Bob", "friends": []})
    await alice.assert_push("friend", news)
    await lobby.close()
    await alice.assert_push("friend", {"places": [], "is_online": True})
    await lobby.client.join("room:garden", {"name": "Bob"})
    await alice.assert_push("friend", {"places": ["room:garden"], "is_online": True})


async def test_a_friend_who_has_gone_was_seen(case: ChannelCase):
    """Of those who are not online one learns when they were."""
    bob = await enter(case, "Bob")
    await bob.close()
    client = await case.connect(UserSocket)

    alice = await client.join("friends:me", {"name": "Alice", "friends": ["Bob", "Carol"]})
    friends = await alice.assert_push("friends", {"places": {}})

    assert friends["seen_at"] == {"Bob": pytest.approx(time.time(), abs=5.0)}


async def test_who_is_not_followed_is_not_told_of(case: ChannelCase):
    """Only those who were asked for are told of."""
    alice = await join(case, "friends:me", "Alice")
    await alice.assert_reply(alice.push("follow", {"friends": ["Bob"]}), "ok")

    await join(case, "room:lobby", "Carol")

    await alice.refute_push("friend")


async def test_a_browser_is_one_visitor(case: ChannelCase):
    """Two tabs of one browser count once, and nobody gets a list."""
    clients = [await case.connect(UserSocket) for _ in range(3)]
    tabs = [await c.join("visitors", {"id": id}) for c, id in zip(clients, "aab", strict=True)]

    for tab in tabs:
        await tab.assert_push("presence_count", {"users": 2, "connections": 3}, timeout=3.0)
        await tab.refute_push("presence_diff")


# How it is started.


def test_it_starts_as_make_demo_starts_it():
    """With the folder of the demo on the path, as `make demo` puts it there, `app` is the app."""
    code = "import sys; sys.path.insert(0, 'examples/demo'); from app import app; print(app.routes)"
    started = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert "/socket" in started.stdout, started.stderr


@pytest.mark.parametrize(
    "name", ["Zoë", "山田", "أحمد", "می‌خواهم", "\U0001f469\u200d\U0001f467 Ada", "O'Neil-Smith 2nd"]
)
async def test_names_of_the_world(case: ChannelCase, name: str):
    """Whatever can be seen is a name, in any script."""
    room = await enter(case, name)

    assert name in await online.list(room.topic)
