"""What each subscriber holds: states and diffs fit together, for every generation of clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from roost import Channel, Policy, Presence, PubSub, Socket, event, intercept
from roost.channels.mailbox import TURN_DURATION
from roost.presence.notifying import subscribers as holding
from roost.pubsub.registry import Subscription
from roost.testing import ChannelCase, JoinedCase
from roost.wire.messages import DIFF, STATE, Broadcast, Message
from tests.models.phoenix_presence import ClientPresence, HandWrittenPresence, Rules
from tests.presence.scenes import TOPIC, app, join, lease, told, told_of
from tests.virtual_clock import virtually

every_client = pytest.mark.parametrize("rules", ["1.2", "1.4", "1.8"])


class Online(Presence):
    """Changes of a second are told in one diff."""

    policies = {"*": Policy(diff_period=1.0)}


class Fetched(Online):
    """Each entry has a name, after as long as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.delay = 0.0

    async def fetch(self, topic: str, presences: Any) -> Any:
        await asyncio.sleep(self.delay)
        return {key: {**entry, "name": key.title()} for key, entry in presences.items()}


def entering(online: Presence) -> type[Channel]:
    class Entering(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.assigns.update(params)

        async def after_join(self) -> None:
            await online.enter(self, self.assigns["key"], {})

    return Entering


class Page:
    """What a page shows of a room: the events that its client got, by the rules of a phoenix.js."""

    def __init__(self, room: JoinedCase, rules: Rules) -> None:
        self.presence: ClientPresence | HandWrittenPresence
        if rules == "1.2":
            self.presence = HandWrittenPresence(rules)
        else:
            self.presence = ClientPresence(lambda: "1", rules)
        self.unheard: list[str] = []
        heard: set[str] = set()
        self.presence.on_join = lambda key, current, joined: heard.update(refs_of(joined))
        self.presence.on_leave = lambda key, current, left: self.unheard.extend(
            refs_of(left) - heard
        )
        self._received = room.client.transport.received

    def shown(self) -> list[str]:
        """Key and ref of each meta; what was received until now is read."""
        for each in self._received:
            if isinstance(each, Message | Broadcast) and each.event == STATE:
                self.presence.receive_state(each.payload)
            elif isinstance(each, Message | Broadcast) and each.event == DIFF:
                self.presence.receive_diff(each.payload)
        self._received.clear()
        metas = [
            (key, meta["phx_ref"])
            for key, entry in self.presence.state.items()
            for meta in entry["metas"]
        ]
        return sorted(f"{key} {ref}" for key, ref in metas)


def refs_of(entry: Any) -> set[str]:
    return {meta["phx_ref"] for meta in entry["metas"]}


async def listed(online: Presence) -> list[str]:
    """What a page should show."""
    presences = await online.list(TOPIC)
    return sorted(
        f"{key} {meta['phx_ref']}" for key, entry in presences.items() for meta in entry["metas"]
    )


@every_client
@pytest.mark.parametrize("max_apart", [1, 2, 64])
@virtually
async def test_many_who_enter_together_show_each_other_once(
    rules: Rules, max_apart: int, monkeypatch: pytest.MonkeyPatch
):
    """A diff that began before a state has only what came after it, for who got the state."""
    monkeypatch.setattr(holding, "MAX_APART", max_apart)
    online = Online()
    async with ChannelCase(app(online)) as case:
        pages = []
        for number in range(12):
            room = await join(case, entering(online), key=f"user-{number % 5}")
            pages.append(Page(room, rules))
            await asyncio.sleep(0.11)
        await asyncio.sleep(5)

        assert len(await listed(online)) == 12
        for page in pages:
            assert page.shown() == await listed(online)
            assert not page.unheard


@virtually
async def test_each_is_told_what_changed_since_its_own_state():
    """Of three changes in a period, who came before all gets all, and who came last the last."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        lease(online, "early")
        alice = await join(case, entering(online), key="alice")
        await asyncio.sleep(5)
        told(alice)

        lease(online, "now")
        await asyncio.sleep(0.1)
        assert told(alice) == ["+now"]
        lease(online, "a")
        bob = await join(case, entering(online), key="bob")
        lease(online, "b").end()
        carol = await join(case, entering(online), key="carol")
        lease(online, "c")
        await asyncio.sleep(5)

        assert told(alice) == ["+a +bob +c +carol"]
        assert told(bob)[-1] == "+c +carol"
        assert told(carol)[-1] == "+c"


@virtually
async def test_hundreds_who_enter_within_a_period_share_most_of_what_they_are_told():
    """What is sent to all of them together does not grow with the square of their number."""

    class Counting(Online):
        sizes: ClassVar[list[int]] = []

        def dispatch(self, subscriptions: Sequence[Subscription], message: Broadcast) -> None:
            self.sizes.append(len(message.payload.encoded))
            super().dispatch(subscriptions, message)

    online = Counting()
    async with ChannelCase(app(online)) as case:
        rooms = [await join(case, entering(online), key="first")]
        await asyncio.sleep(0.1)
        for number in range(400):
            rooms.append(await join(case, entering(online), key=f"user-{number}"))
        online.sizes.clear()
        await asyncio.sleep(5)

        expected = await listed(online)
        assert all(Page(room, "1.2").shown() == expected for room in rooms)
        a_member = max(online.sizes) / 400
        assert sum(online.sizes) < 400 * 60 * a_member  # and not 400 * 200


@virtually
async def test_nobody_is_told_the_leave_of_whom_it_was_never_told():
    """Who came and changed, or came and went, within a period: others got a state in between."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case, entering(online), key="alice")
        await asyncio.sleep(0.1)
        bob, visitor = lease(online, "bob", n=1), lease(online, "visitor")
        carol = await join(case, entering(online), key="carol")
        pages = [Page(alice, "1.8"), Page(carol, "1.8")]
        bob.update({"n": 2})
        visitor.end()
        await asyncio.sleep(5)

        diffs = [
            each.payload
            for each in alice.client.transport.received
            if isinstance(each, Broadcast) and each.event == DIFF
        ]
        assert [list(diff["leaves"]) for diff in diffs] == [[]]
        for page in pages:
            assert page.shown() == await listed(online)
            assert not page.unheard


@every_client
@pytest.mark.parametrize("kind", [Online, Fetched])
@virtually
async def test_a_list_that_is_pushed_late_reverts_nothing(kind: type[Presence], rules: Rules):
    """Track, list, wait, push, on a second join: who came and went meanwhile came and went."""
    online = kind()
    gate = asyncio.Event()

    class Waiting(Channel):
        async def after_join(self) -> None:
            online.track(self, "alice", {})
            presences = await online.list(TOPIC)
            await gate.wait()
            self.push("presence_state", presences)

    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob")
        room = await join(case, Waiting)
        page = Page(room, rules)
        gate.set()
        await asyncio.sleep(5)
        assert page.shown() == await listed(online)
        gate.clear()

        await room.client.join(TOPIC)
        await asyncio.sleep(2)
        bob.end()
        lease(online, "carol")
        await asyncio.sleep(2)
        gate.set()
        await asyncio.sleep(5)

        assert page.shown() == await listed(online)
        if kind is Fetched:
            assert all("name" in entry for entry in page.presence.state.values())


@every_client
@virtually
async def test_a_slow_channel_pushes_no_diff_that_its_state_went_past(rules: Rules):
    """Diffs that an intercepting channel gets to after a newer state are not sent any more."""
    online = Online()

    class Slow(Channel):
        async def after_join(self) -> None:
            self.spawn(self.ask_later())

        async def ask_later(self) -> None:
            for seconds in (0.5, 2.2, 1.1):
                await asyncio.sleep(seconds)
                await online.push_state(self)

        @intercept("presence_diff")
        async def handle_diff(self, diff: Any) -> None:
            await asyncio.sleep(1.5)
            self.push("presence_diff", diff)

    async with ChannelCase(app(online)) as case:
        page = Page(await join(case, Slow), rules)
        for number in range(12):
            visitor = lease(online, f"user-{number % 4}")
            await asyncio.sleep(0.4)
            if number % 3:
                visitor.end()
        await asyncio.sleep(60)

        assert page.shown() == await listed(online)


@virtually
async def test_nobody_stays_without_what_fetch_adds():
    """However many changes follow each other, a state has nobody whom ``fetch`` has not seen."""

    class Small(Fetched):
        policies = {"*": Policy(diff_period=0.05)}
        max_diff_count = 2

    online = Small()
    async with ChannelCase(app(online)) as case:
        room = await join(case, entering(online), key="alice")
        page = Page(room, "1.8")
        online.delay = 0.3
        for number in range(40):
            lease(online, f"user-{number}")
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)

        assert page.shown() == await listed(online)
        nameless = [key for key, entry in page.presence.state.items() if "name" not in entry]
        assert nameless == []


@virtually
async def test_a_state_settles_what_a_client_held_back_on_an_earlier_connection():
    """Diffs that came before the state of a join that was never answered end with the second one.

    A page that had a connection before shows it by its refs, which go on counting.
    """
    online = Online()
    async with ChannelCase(app(online)) as case:
        visitor = lease(online, "visitor")
        await asyncio.sleep(2)
        presence = ClientPresence(lambda: "9")
        (left,) = (await online.list(TOPIC))["visitor"]["metas"]
        presence.receive_diff({"joins": {"visitor": {"metas": [left]}}, "leaves": {}})
        visitor.end()
        await asyncio.sleep(2)

        client = case.client(Socket())
        client._routes.override(TOPIC, entering(online))
        client.send("9", "9", TOPIC, "phx_join", {"key": "alice"})
        await asyncio.sleep(2)

        for each in client.transport.received:
            if isinstance(each, Message) and each.event == STATE:
                presence.receive_state(each.payload)
        assert list(presence.state) == ["alice"]


@virtually
async def test_who_reconnects_is_not_told_of_changes_from_before():
    """What a page knows from its connection before, it would count twice by the rules of 1.2."""
    online = Online()

    class Late(Channel):
        pass

    async with ChannelCase(app(online)) as case:
        lease(online, "first")
        await asyncio.sleep(0.5)
        lease(online, "before")
        await asyncio.sleep(0.1)
        client = case.client(Socket())
        client._routes.override(TOPIC, Late)
        client.send("9", "9", TOPIC, "phx_join", {})
        await asyncio.sleep(0.1)
        lease(online, "after")
        await asyncio.sleep(5)
        lease(online, "later")
        await asyncio.sleep(5)

        assert told_of(client.transport.received) == ["+after", "+later"]


@virtually
async def test_a_large_state_is_not_sent_twice_to_who_reconnects(monkeypatch: pytest.MonkeyPatch):
    """What all get who reconnect to a large room is not doubled."""
    monkeypatch.setattr(holding, "MAX_REPEATED_SIZE", 1_000)
    online = Online()
    async with ChannelCase(app(online)) as case:
        for number in range(30):
            lease(online, f"user-{number}")
        await asyncio.sleep(2)
        client = case.client(Socket())
        client._routes.override(TOPIC, entering(online))
        client.send("9", "9", TOPIC, "phx_join", {"key": "alice"})
        await asyncio.sleep(2)

        events = [each.event for each in client.transport.received if isinstance(each, Message)]
        assert events.count(STATE) == 1


@virtually
async def test_a_client_that_was_told_diffs_before_its_state_gets_it_twice():
    """phoenix.js applies the diffs on top of the first one, which the second one makes right."""
    online = Online()

    class Late(Channel):
        @event("ask")
        async def ask(self, payload: Any) -> None:
            await online.push_state(self)

    async with ChannelCase(app(online)) as case:
        room = await join(case, Late)
        page = Page(room, "1.8")
        visitor = lease(online, "visitor")
        await asyncio.sleep(0.1)
        visitor.end()
        room.push("ask")
        await asyncio.sleep(0.1)
        assert page.shown() == []
        assert not page.presence.pending_diffs  # type: ignore[union-attr]
        room.push("ask")
        await asyncio.sleep(5)
        assert told(room) == ["state"]


@pytest.mark.parametrize("between", ["nothing", "asks for a list"])
@virtually
async def test_what_a_client_holds_back_is_settled_however_often_it_joins(between: str):
    """Diffs before the first state may be held back until one comes, over any number of joins."""
    online = Fetched()

    class Late(Channel):
        @event("list")
        async def list(self, payload: Any) -> None:
            await online.list(self)

        @event("ask")
        async def ask(self, payload: Any) -> None:
            await online.push_state(self)

    async with ChannelCase(app(online)) as case:
        room = await join(case, Late)
        lease(online, "alice")
        await asyncio.sleep(5)
        assert told(room) == ["+alice"]

        second = await room.client.join(TOPIC)
        if between != "nothing":
            second.push("list")
            await asyncio.sleep(1)
        third = await room.client.join(TOPIC)
        third.push("ask")
        await asyncio.sleep(1)

        assert told(third) == ["state alice", "state alice"]


@virtually
async def test_who_joins_again_is_told_nothing_that_its_state_had():
    """A state within a period is kept over a join: of the period's diff it needs the rest."""
    online = Fetched()

    class Asking(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.assigns.update(params)

        async def after_join(self) -> None:
            presences = await online.list(self)
            if self.assigns["pushes"]:
                self.push("presence_state", presences)

    async with ChannelCase(app(online)) as case:
        lease(online, "early")
        await asyncio.sleep(0.1)
        lease(online, "alice")
        room = await join(case, Asking, pushes=True)
        await asyncio.sleep(0.1)
        assert told(room) == ["state alice early"]
        await room.client.join(TOPIC, {"pushes": False})
        await asyncio.sleep(0.1)
        lease(online, "bob")
        await asyncio.sleep(5)

        assert told(room) == ["+bob"]


@virtually
async def test_a_state_in_place_of_a_diff_settles_diffs_before_it():
    """It may be the first one that a client gets, and is sent twice then."""

    class Small(Online):
        max_diff_count = 2

    online = Small()
    async with ChannelCase(app(online)) as case:
        room = await join(case)
        lease(online, "alice")
        await asyncio.sleep(0.1)
        assert told(room) == ["+alice"]

        for _ in range(2):
            for _ in range(3):
                lease(online, "bob")
            await asyncio.sleep(5)

        assert told(room) == ["state alice bob×3", "state alice bob×3", "state alice bob×6"]


@virtually
async def test_a_channel_that_has_yet_to_enter_is_sent_no_diff():
    """What is told between a join and its ``after_join`` is in the state that this pushes."""
    online = Online()

    class Entering(Channel):
        async def join(self, topic: str, params: Any) -> None:
            lease(online, "bob")  # is told at the end of the tick
            time.sleep(2 * TURN_DURATION)  # noqa: ASYNC251  # so that others have their turn first

        async def after_join(self) -> None:
            await online.push_state(self)

    async with ChannelCase(app(online)) as case:
        room = await join(case, Entering)
        await asyncio.sleep(5)

        assert told(room) == ["state bob"]


@virtually
async def test_a_list_that_a_channel_asks_for_is_pushed_before_further_diffs():
    """While its list is fetched, and until it was pushed, its client is sent no diffs."""

    class Prompt(Fetched):
        policies = {"*": Policy(diff_period=0.05)}

    online = Prompt()

    class Tutorial(Channel):
        async def after_join(self) -> None:
            online.track(self, "alice", {})
            self.push("presence_state", await online.list(self))

    async with ChannelCase(app(online)) as case:
        online.delay = 0.3
        room = await join(case, Tutorial)
        await asyncio.sleep(0.1)
        lease(online, "bob")
        await asyncio.sleep(5)

        assert told(room) == ["state alice bob"]


@virtually
async def test_who_was_sent_what_it_missed_is_told_as_others_are():
    """A channel that asks for a list and pushes none gets a diff of what it missed, then others."""
    online = Fetched()

    class Asking(Channel):
        async def after_join(self) -> None:
            await online.list(self)

    async with ChannelCase(app(online)) as case:
        lease(online, "alice")
        await asyncio.sleep(5)
        online.delay = 1.0
        room = await join(case, Asking)
        lease(online, "bob")
        await asyncio.sleep(5)
        (diff,) = (
            each.payload
            for each in room.client.transport.received
            if isinstance(each, Broadcast) and each.event == DIFF
        )
        assert diff["joins"]["bob"]["name"] == "Bob"
        online.delay = 0.0
        for key in ("carol", "dave"):
            lease(online, key)
            await asyncio.sleep(5)

        assert told(room) == ["+bob", "+carol", "+dave"]


@virtually
async def test_lists_that_are_asked_for_together_are_made_once():
    """Fifty lists share the call of ``fetch`` and the bytes, though they are asked for in turn."""
    online = Fetched()
    async with online.running(PubSub()):
        for number in range(20):
            lease(online, f"user-{number}")
        online.delay = 0.3

        async def later(seconds: float) -> Any:
            await asyncio.sleep(seconds)
            return await online.list(TOPIC)

        lists = await asyncio.gather(*(later(number / 1000) for number in range(50)))

        assert len({id(each.encoded) for each in lists}) == 1


@virtually
async def test_who_asks_for_a_list_is_in_it():
    """However late it comes to a list that is being made."""
    online = Fetched()
    async with online.running(PubSub()):
        lease(online, "alice")
        online.delay = 0.3
        listings = []
        for number in range(8):
            listings.append((f"user-{number}", asyncio.ensure_future(online.list(TOPIC))))
            await asyncio.sleep(0.1)
            lease(online, f"user-{number}")
            listings[-1] = (f"user-{number}", asyncio.ensure_future(online.list(TOPIC)))

        for key, listing in listings:
            presences = await listing
            assert key in presences
            assert all("name" in entry for entry in presences.values())


@virtually
async def test_a_topic_is_forgotten_although_a_list_was_being_made():
    """Whoever waited for its list, nothing is kept of a topic where nobody is."""
    online = Fetched()

    class Asking(Channel):
        async def after_join(self) -> None:
            await online.push_state(self)

    async with ChannelCase(app(online)) as case:
        visitor = lease(online, "visitor")
        await asyncio.sleep(2)
        online.delay = 0.3
        room = await join(case, Asking)
        await asyncio.sleep(0.1)
        online.delay = 0.0
        visitor.end()
        await asyncio.sleep(5)

        assert told(room) == ["state"]
        assert online._current()._announcers == {}


@virtually
async def test_diffs_while_a_newer_join_is_decided_may_be_held_back():
    """The first state of that join is sent twice, though its channel was sent no diff."""
    online = Online()

    class Slow(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await asyncio.sleep(params["seconds"])

        @event("ask")
        async def ask(self, payload: Any) -> None:
            await online.push_state(self)

    async with ChannelCase(app(online)) as case:
        room = await join(case, Slow, seconds=0)
        joining = asyncio.create_task(room.client.join(TOPIC, {"seconds": 0.5}))
        await asyncio.sleep(0.1)
        lease(online, "alice")
        await asyncio.sleep(0.1)
        assert told(room) == ["+alice"]

        (await joining).push("ask")
        await asyncio.sleep(0.1)

        assert told(room) == ["state alice", "state alice"]


@virtually
async def test_in_place_of_a_list_that_is_too_old_one_is_fetched():
    """A list that its client is past is made anew, with all that ``fetch`` adds."""
    online = Fetched()
    gate = asyncio.Event()

    class Late(Channel):
        @event("ask")
        async def ask(self, payload: Any) -> None:
            presences = await online.list(TOPIC)
            await gate.wait()
            self.push("presence_state", presences)

    async with ChannelCase(app(online)) as case:
        room = await join(case, Late)
        lease(online, "alice")
        await asyncio.sleep(5)
        room.push("ask")
        await asyncio.sleep(0.1)
        lease(online, "bob")
        await asyncio.sleep(5)
        assert told(room) == ["+alice", "+bob"]

        gate.set()
        await asyncio.sleep(5)

        states = [
            each.payload
            for each in room.client.transport.received
            if isinstance(each, Message | Broadcast) and each.event == STATE
        ]
        names = {"alice": "Alice", "bob": "Bob"}
        assert [{key: entry["name"] for key, entry in state.items()} for state in states] == [
            names,
            names,
        ]


@pytest.mark.parametrize("kind", [Online, Fetched])
@virtually
async def test_a_late_list_of_a_topic_where_nobody_is_shows_nobody(kind: type[Presence]):
    """Nothing is kept of such a topic, so that no leave would follow."""
    online = kind()
    gate = asyncio.Event()

    class Late(Channel):
        async def after_join(self) -> None:
            presences = await online.list(TOPIC)
            await gate.wait()
            self.push("presence_state", presences)

    async with ChannelCase(app(online)) as case:
        alice = lease(online, "alice")
        await asyncio.sleep(5)
        room = await join(case, Late)
        await asyncio.sleep(0.1)
        alice.end()
        await asyncio.sleep(5)
        told(room)
        gate.set()
        await asyncio.sleep(5)

        assert set(told(room)) == {"state"}


@virtually
async def test_who_left_while_its_list_is_made_is_sent_none():
    """A list in place of one that is too old is for the channel that pushed that."""
    online = Fetched()
    gate = asyncio.Event()

    class Late(Channel):
        async def after_join(self) -> None:
            presences = await online.list(TOPIC)
            await gate.wait()
            self.push("presence_state", presences)

    async with ChannelCase(app(online)) as case:
        lease(online, "alice")
        await asyncio.sleep(5)
        room = await join(case, Late)
        await asyncio.sleep(0.1)
        lease(online, "bob")
        await asyncio.sleep(5)
        assert told(room) == ["+bob"]

        online.delay = 1.0
        gate.set()
        await asyncio.sleep(0.1)
        room.leave()
        await asyncio.sleep(5)

        assert told(room) == []


@virtually
async def test_who_left_is_told_as_fetched_to_those_alone_who_saw_it():
    """A visitor of one period is in nobody's diff but of who got a state meanwhile."""
    online = Fetched()
    async with ChannelCase(app(online)) as case:
        lease(online, "early")
        await asyncio.sleep(0.1)
        visitor = lease(online, "visitor")
        room = await join(case, entering(online), key="alice")
        await asyncio.sleep(0.1)
        assert told(room) == ["state alice early visitor"]
        visitor.end()
        await asyncio.sleep(5)

        (diff,) = (
            each.payload
            for each in room.client.transport.received
            if isinstance(each, Broadcast) and each.event == DIFF
        )
        assert diff["joins"] == {}
        assert {key: entry.get("name") for key, entry in diff["leaves"].items()} == {
            "visitor": "Visitor"
        }


@virtually
async def test_a_topic_is_kept_while_somebody_is_to_be_told_of_it():
    """Who waits for a list that is not pushed is told of the last leave, too."""
    online = Fetched()

    class Asking(Channel):
        async def after_join(self) -> None:
            await online.push_state(self)

        @event("list")
        async def list(self, payload: Any) -> None:
            await online.list(self)

    async with ChannelCase(app(online)) as case:
        visitor = lease(online, "visitor")
        room = await join(case, Asking)
        await asyncio.sleep(2)
        assert told(room) == ["state visitor"]

        online.delay = 3.0
        room.push("list")
        await asyncio.sleep(0.1)
        online.delay = 0.0
        visitor.end()
        await asyncio.sleep(5)

        assert told(room) == ["-visitor"]


@virtually
async def test_what_all_were_told_is_kept_no_longer():
    """However much changed, and whoever came meanwhile."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        for number in range(5):
            await join(case)
            lease(online, f"user-{number}")
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)

        announcer = online._current()._announcers[TOPIC]
        assert not announcer._feed.reaches(4)
        assert len(announcer.subscribers._marks) <= 1
