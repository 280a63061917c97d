"""docs/who-is-this.md: its programs run, and query as seldom as it says."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from roost import Endpoint
from roost.testing import ChannelCase, JoinedCase
from tests.docs.guide import Guide
from tests.virtual_clock import virtually

GUIDE = Guide("who-is-this.md")

ALICE = {"name": "Alice", "avatar": "/avatars/1.png"}
BOB = {"name": "Bob", "avatar": "/avatars/2.png"}


class Scene:
    """The guide's program up to a section, and the queries that it makes.

    Attributes:
        queries: The ids of each query.
    """

    def __init__(self, until: str, online: str = "Online") -> None:
        self.guide = guide = GUIDE.run(until=until)
        self.online = guide.online = getattr(guide, online)()
        self.queries: list[list[str]] = []
        self.case = ChannelCase(Endpoint({}, presences=[self.online]))
        users_by_id: Callable[[list[str]], Any] = guide.users_by_id

        async def to_thread(function: Any, ids: Any, *rest: Any) -> Any:
            """At once, on the virtual clock."""
            if function is users_by_id:
                self.queries.append(sorted(ids))
            await asyncio.sleep(0.01)
            return function(ids, *rest)

        guide.asyncio = type("asyncio", (), {"to_thread": staticmethod(to_thread)})

    async def join(self, user_id: str, **options: Any) -> JoinedCase:
        client = await self.case.connect(self.guide.UserSocket, {"user_id": user_id})
        return await client.join("room:1", **options)

    async def enter(self, user_id: str, **options: Any) -> JoinedCase:
        """Join, wait for the list, and until everybody was told everything."""
        room = await self.join(user_id, **options)
        await room.assert_push("presence_state")
        await self.online.settled()
        return room


async def test_the_program_runs_as_it_stands():
    """In a thread, on a real clock: the entry has the user beside the metas, and no e-mail."""
    guide = GUIDE.run(until="One query for all")
    async with ChannelCase(guide.endpoint) as case:
        client = await case.connect(guide.UserSocket, {"user_id": "1"})
        room = await client.join("room:1")
        state = await room.assert_push("presence_state")
        assert state["1"].keys() == {"metas", "user"}
        assert state["1"]["user"] == ALICE


@virtually
async def test_lists_and_diffs_have_the_users():
    """Who comes gets a list with users, the others a diff with one; the unknown have None."""
    scene = Scene("One query for all")
    async with scene.case:
        alice = await scene.enter("1")
        bob = await scene.join("2")
        await bob.assert_push("presence_state", {"1": {"user": ALICE}, "2": {"user": BOB}})
        await alice.assert_push("presence_diff", {"joins": {"2": {"user": BOB}}})
        bob.leave()
        await alice.assert_push("presence_diff", {"leaves": {"2": {"user": BOB}}})
        await scene.join("3")
        await alice.assert_push("presence_diff", {"joins": {"3": {"user": None}}})


@virtually
async def test_a_diff_costs_one_query_for_all_in_it():
    """Fifty clients hear of two who come in one diff: one query, about those two."""
    scene = Scene("One query for all")
    async with scene.case:
        rooms = await asyncio.gather(*(scene.join("1") for _ in range(50)))
        for room in rooms:
            await room.assert_push("presence_state")
        await scene.online.settled()
        await asyncio.sleep(1)
        scene.queries.clear()

        async with scene.online.lease("room:1", "2"), scene.online.lease("room:1", "3"):
            diff = await rooms[0].assert_push(
                "presence_diff", where=lambda each: "2" in each["joins"]
            )
            assert diff["joins"].keys() == {"2", "3"}
            assert scene.queries == [["2", "3"]]
            for room in rooms[1:]:
                await room.assert_push("presence_diff", {"joins": {"2": {"user": BOB}}})
            assert scene.queries == [["2", "3"]]


@virtually
async def test_who_comes_together_costs_one_query():
    """A hundred lists in the same moment share a call."""
    scene = Scene("One query for all")
    async with scene.case:
        rooms = await asyncio.gather(*(scene.join(str(number)) for number in range(100)))
        for room in rooms:
            assert len(await room.assert_push("presence_state")) == 100
        assert len(scene.queries) <= 2


@virtually
async def test_nobody_listens_nobody_queries():
    """A change in a topic without subscribers is not fetched; ``get_by_key`` asks for one key."""
    scene = Scene("One query for all")
    async with scene.case, scene.online.lease("room:1", "1"), scene.online.lease("room:1", "2"):
        await scene.online.settled()
        assert scene.queries == []
        entry = await scene.online.get_by_key("room:1", "2")
        assert entry is not None
        assert entry["user"] == BOB
        assert scene.queries == [["2"]]


@virtually
async def test_what_was_fetched_is_used_again():
    """With fetch_ttl alice is asked for once in 30 s; after an update, and after 30 s, anew."""
    scene = Scene("Ask less often", "Cached")
    async with scene.case:
        alice = await scene.enter("1")
        scene.queries.clear()
        await scene.enter("2")
        await scene.online.list("room:1")
        assert scene.queries
        assert all(ids == ["2"] for ids in scene.queries)

        scene.queries.clear()
        scene.online.update(alice.channel, "1", {"status": "away"})
        await scene.online.settled()
        await scene.online.list("room:1")
        assert scene.queries == [["1"]]

        await asyncio.sleep(31)
        await scene.online.list("room:1")
        assert scene.queries == [["1"], ["1", "2"]]


@virtually
async def test_without_it_every_list_asks():
    """The default asks for everybody at each list."""
    scene = Scene("Ask less often")
    async with scene.case:
        await scene.enter("1")
        await scene.enter("2")
        before = len(scene.queries)
        await scene.online.list("room:1")
        assert scene.queries[before:] == [["1", "2"]]


@virtually
@pytest.mark.parametrize("failure", ["raises", "hangs"])
async def test_presence_goes_on_without_the_database(
    failure: str, caplog: pytest.LogCaptureFixture
):
    """If the query fails or hangs, the list comes bare, within 5 s, and the log says so."""
    scene = Scene("One query for all")

    async def to_thread(function: Any, ids: Any) -> Any:
        if failure == "hangs":
            await asyncio.sleep(3600)
        raise sqlite3.OperationalError("the disk is gone")

    scene.guide.asyncio.to_thread = to_thread
    async with scene.case:
        alice = await scene.join("1")
        state = await alice.assert_push("presence_state", timeout=5.1)
        assert state["1"].keys() == {"metas"}
        assert "its presences are sent without fetched data" in caplog.text
        assert alice.channel.is_joined


@virtually
async def test_a_new_name_is_told_by_an_update():
    """The diff of the update has the new name, and the metas stay as they are but for the ref."""
    scene = Scene("Keep metas small")
    async with scene.case:
        alice = await scene.enter("1", channel=scene.guide.RenamingChannel)
        bob = await scene.enter("2")
        await alice.assert_reply(alice.push("rename", {"name": "Alicia"}), "ok")
        diff = await bob.assert_push(
            "presence_diff", {"joins": {"1": {"user": {"name": "Alicia"}}}}
        )
        (new,), (old,) = (diff[side]["1"]["metas"] for side in ("joins", "leaves"))
        assert new["online_at"] == old["online_at"]


@virtually
async def test_who_is_left_out_is_shown_to_nobody():
    """Key 3, which is no user, is in no list and no diff, but in the count."""
    scene = Scene("Leave somebody out", "Selective")
    async with scene.case:
        alice = await scene.enter("1")
        ghost = await scene.join("3")
        assert (await ghost.assert_push("presence_state")).keys() == {"1"}
        await scene.online.settled()
        await alice.refute_push("presence_diff", where_joined("3"))
        assert scene.online.count_users("room:1") == 2


def where_joined(key: str) -> dict[str, Any]:
    """A diff in which a key joined."""
    return {"joins": {key: {}}}
