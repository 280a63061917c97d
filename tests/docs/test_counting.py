"""docs/counting.md: its programs run, and count what they say they count."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost import Channel, ConnectInfo, Endpoint, Presence
from roost.testing import ChannelCase, JoinedCase
from roost.wire.messages import Broadcast, Message
from tests.docs.guide import Guide
from tests.virtual_clock import virtually

GUIDE = Guide("counting.md")


async def visit(
    case: ChannelCase, socket: Any, browser: str, info: ConnectInfo | None = None, **params: Any
) -> JoinedCase:
    """A tab of a browser opens a page."""
    client = await case.connect(socket, {"browser_id": browser, **params}, info)
    return await client.join("page:home")


async def say(room: JoinedCase, event: str, topic: str) -> None:
    """Push an event about a topic, and wait for the answer."""
    await room.assert_reply(room.push(event, {"topic": topic}), "ok")


@virtually
async def test_users_and_connections_are_counted():
    """Two tabs of one browser and one of another are two people with three tabs."""
    guide = GUIDE.run(until="Track every join")
    async with ChannelCase(guide.endpoint) as case:
        tabs = [await visit(case, guide.SiteSocket, browser) for browser in ("a", "a", "b")]
        assert guide.summary("page:home") == "2 people with 3 tabs"
        assert guide.summary(tabs[0].channel) == "2 people with 3 tabs"

        await tabs[0].close()
        assert guide.summary("page:home") == "2 people with 2 tabs"
        await tabs[2].close()
        assert guide.summary("page:home") == "1 people with 1 tabs"


@virtually
async def test_joined_and_subscribed_topics_are_tracked():
    """Each topic counts by itself, from the join or subscription to its end."""
    guide = GUIDE.run(until="Track every join")
    count = guide.online.count_connections
    async with ChannelCase(guide.endpoint) as case:
        room = await visit(case, guide.SiteSocket, "a")
        (meta,) = (await guide.online.list("page:home"))["a"]["metas"]
        assert meta.keys() == {"online_at", "phx_ref"}

        await say(room, "follow", "news")
        assert (count("page:home"), count("news")) == (1, 1)
        await say(room, "unfollow", "news")
        assert (count("page:home"), count("news")) == (1, 0)
        await say(room, "follow", "news")
        await room.close()
        assert (count("page:home"), count("news")) == (0, 0)


@virtually
async def test_what_is_not_asked_for_is_not_tracked():
    """A channel with False is not tracked, nor is one whose socket says nothing."""
    guide = GUIDE.run(until="Track every join")

    class Untracked(guide.PageChannel):  # type: ignore[misc, name-defined]
        presence = False

    class Silent(guide.Socket):  # type: ignore[misc, name-defined]
        channels = {"page:*": guide.PageChannel}

    async with ChannelCase(guide.endpoint) as case:
        client = await case.connect(guide.SiteSocket)
        await client.join("page:home", channel=Untracked)
        await visit(case, Silent, "b")
        assert guide.online.count_connections("page:home") == 0


@virtually
async def test_options_of_track_joins():
    """The meta is the function's, and the client is pushed the list."""
    guide = GUIDE.run(until="Track every join")

    class MetaSocket(guide.SiteSocket):  # type: ignore[misc, name-defined]
        presence = guide.TrackJoins(
            guide.online, meta=lambda channel: {"at": channel.topic}, push_state=True
        )

    async with ChannelCase(guide.endpoint) as case:
        room = await visit(case, MetaSocket, "a")
        await room.assert_push("presence_state", {"a": {"metas": [{"at": "page:home"}]}})


@virtually
async def test_a_browser_without_an_id_counts_by_itself():
    """Two such connections are two users, with ids that the server makes up."""
    guide = GUIDE.run(until="Who is counted")
    async with ChannelCase(guide.endpoint) as case:
        for _ in range(2):
            await (await case.connect(guide.SiteSocket)).join("page:home")
        assert guide.summary("page:home") == "2 people with 2 tabs"


@virtually
@pytest.mark.parametrize(
    ("params", "session", "key"),
    [
        ({"shared-screen": "1"}, {"user_id": 42}, "screen"),
        ({}, {"user_id": 42}, "42"),
        ({}, {}, "the browser"),
        ({}, None, "the browser"),
    ],
    ids=["store first", "then session", "then browser", "without a session"],
)
async def test_where_the_key_comes_from(params: Any, session: Any, key: str):
    """The first place in the order of ``id`` that has a value, as a string; else the browser."""
    guide = GUIDE.run(until="Who is counted")
    info = ConnectInfo(session=session)
    async with ChannelCase(guide.endpoint) as case:
        await visit(case, guide.MemberSocket, "the browser", info, **params)
        assert list(await guide.online.list("page:home")) == [key]


@virtually
async def test_the_count_is_told_on_connect_and_disconnect():
    """Everybody on the page hears the new number, also after the last word of who left."""
    guide = GUIDE.run(until="Tell the count on connect and disconnect")
    async with ChannelCase(guide.endpoint) as case:
        alice = await visit(case, guide.CountedSocket, "a")
        await alice.assert_push("number_of_users", {"count": 1})
        bob = await visit(case, guide.CountedSocket, "b")
        await alice.assert_push("number_of_users", {"count": 2})
        await bob.assert_push("number_of_users", {"count": 2})

        bob.client.close()

        await alice.assert_push("number_of_users", {"count": 1})


@virtually
async def test_a_tracker_of_ones_own():
    """Its start tracks with its own meta, its stop untracks, and the end of a channel does, too."""
    guide = GUIDE.run(until="A tracker of your own")
    online = guide.online
    async with ChannelCase(guide.endpoint) as case:
        room = await visit(case, guide.ReaderSocket, "a", lang="fr")
        await say(room, "follow", "news")
        for topic in ("page:home", "news"):
            (meta,) = (await online.list(topic))["a"]["metas"]
            assert meta["lang"] == "fr"
        await say(room, "unfollow", "news")
        assert await online.list("news") == {}
        await room.close()
        assert await online.list("page:home") == {}


@virtually
async def test_a_presence_with_a_fetch_of_its_own():
    """TrackJoins tracks in whatever Presence it is given."""
    guide = GUIDE.run(until="A tracker of your own")

    class Fetched(Presence):
        def fetch(self, topic: str, presences: Any) -> Any:
            return {key: {**entry, "user": key.upper()} for key, entry in presences.items()}

    fetched = Fetched()

    class FetchedSocket(guide.SiteSocket):  # type: ignore[misc, name-defined]
        presence = guide.TrackJoins(fetched)

    async with ChannelCase(Endpoint({}, presences=[fetched])) as case:
        await visit(case, FetchedSocket, "a")
        assert (await fetched.list("page:home"))["a"]["user"] == "A"


@virtually
async def test_visitors_without_names():
    """Clients get counts, at most one in a second, and no list; the server keeps only keys."""
    guide = GUIDE.run(until="Visitors without names")
    async with ChannelCase(guide.public_endpoint) as case:
        alice = await visit(case, guide.VisitorSocket, "a")
        await asyncio.sleep(2)
        for number in range(10):
            await visit(case, guide.VisitorSocket, str(number % 5))
            await asyncio.sleep(0.01)
        assert counts(alice) == [(1, 1), (2, 2)]
        await asyncio.sleep(1)
        assert counts(alice) == [(1, 1), (2, 2), (6, 11)]
        await asyncio.sleep(5)
        assert counts(alice) == [(1, 1), (2, 2), (6, 11)]
        assert await alice.assert_push("presence_state") == {}
        await alice.refute_push("presence_diff")

        entry = await guide.visitors.get_by_key("page:home", "a")
        assert [meta.keys() for meta in entry["metas"]] == [{"phx_ref"}]


def counts(room: JoinedCase) -> list[tuple[int, int]]:
    """The different counts that a client got, in order: users, connections."""
    told = [
        (received.payload["users"], received.payload["connections"])
        for received in room.client.transport.received
        if isinstance(received, Message | Broadcast) and received.event == "presence_count"
    ]
    return [count for number, count in enumerate(told) if count not in told[:number]]


def test_the_default_channel_does_nothing():
    """The visitors' channel is a bare one: nothing is written for it."""
    guide = GUIDE.run(until="Visitors without names")
    assert guide.VisitorSocket.channels == {"page:*": Channel}
