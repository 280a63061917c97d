"""Tracker: as Phoenix.Tracker, presences for the server alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from roost import AlreadyTracked, Channel, Endpoint, NotTracked, PubSub, Socket, Tracker
from roost.exceptions import (
    ConfigurationError,
    InvalidKey,
    NotStarted,
    PayloadError,
    WrongThread,
)
from roost.presence import Lease, tracker
from roost.testing import ChannelCase
from roost.wire.messages import Broadcast
from tests.presence.failures import FAILURES
from tests.presence.somebody import somebody
from tests.virtual_clock import run_virtually, virtually

TOPIC = "queue:mail"


class Jobs(Tracker):
    """Notes its diffs, the metas by their n, and its messages."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.diffs: list[dict[str, tuple[list[tuple[str, int]], list[tuple[str, int]]]]] = []
        self.messages: list[Any] = []

    def handle_diff(self, diff: Any) -> Any:
        self.diffs.append(
            {
                topic: (
                    [(key, meta["n"]) for key, meta in joins],
                    [(key, meta["n"]) for key, meta in leaves],
                )
                for topic, (joins, leaves) in diff.items()
            }
        )

    def handle_info(self, message: Any) -> Any:
        self.messages.append(message)


class SlowJobs(Jobs):
    """Takes a second for each diff; messages are sync."""

    async def handle_diff(self, diff: Any) -> None:
        await asyncio.sleep(1)
        super().handle_diff(diff)


def mail(jobs: Tracker, key: str, n: int, topic: str = TOPIC) -> Lease:
    """Somebody who works on something until the lease ends."""
    return somebody(jobs, key, topic, n=n)


# TrackerBase.


@virtually
async def test_what_is_tracked_is_listed_at_once():
    """Track, update and untrack are seen by whoever lists next, with the refs of the metas."""
    async with Jobs().running(PubSub()) as jobs:
        owner = Lease(jobs, TOPIC, "alice")
        first = jobs.track(owner, "alice", {"n": 1}, topic=TOPIC)
        assert jobs.list(TOPIC) == [("alice", {"n": 1, "phx_ref": first})]

        second = jobs.update(owner, "alice", {"n": 2}, topic=TOPIC)
        updated = {"n": 2, "phx_ref": second, "phx_ref_prev": first}
        assert jobs.list(TOPIC) == [("alice", updated)]
        assert jobs.get_by_key(TOPIC, "alice") == [updated]
        assert jobs.is_tracked(owner, "alice", topic=TOPIC)

        jobs.untrack(owner, "alice", topic=TOPIC)
        assert jobs.list(TOPIC) == []
        assert jobs.get_by_key(TOPIC, "alice") == []
        assert not jobs.is_tracked(owner, "alice", topic=TOPIC)


@virtually
async def test_one_owner_may_have_many_keys_and_one_key_many_owners():
    """A list goes key by key; one key's metas are in the order of their arrival."""
    async with Jobs().running(PubSub()) as jobs:
        alice = mail(jobs, "a", 1)
        mail(jobs, "b", 2)
        mail(jobs, "a", 3)
        jobs.track(alice, "c", {"n": 4}, topic=TOPIC)
        jobs.track(alice, "a", {"n": 5}, topic="queue:fax")

        assert [(key, meta["n"]) for key, meta in jobs.list(TOPIC)] == [
            ("a", 1),
            ("a", 3),
            ("b", 2),
            ("c", 4),
        ]
        assert [meta["n"] for meta in jobs.get_by_key(TOPIC, "a")] == [1, 3]
        assert [meta["n"] for meta in jobs.get_by_key("queue:fax", "a")] == [5]
        assert jobs.list("queue:telex") == []


@virtually
async def test_keys_may_be_integers():
    """An integer key is its digits, for every operation."""
    async with Jobs().running(PubSub()) as jobs:
        owner = Lease(jobs, TOPIC, "7")
        jobs.track(owner, 7, {"n": 1}, topic=TOPIC)
        jobs.update(owner, 7, {"n": 2}, topic=TOPIC)

        assert [key for key, _ in jobs.list(TOPIC)] == ["7"]
        assert len(jobs.get_by_key(TOPIC, 7)) == 1
        assert jobs.is_tracked(owner, 7, topic=TOPIC)
        jobs.untrack(owner, 7, topic=TOPIC)
        assert jobs.list(TOPIC) == []


@virtually
async def test_an_update_may_be_a_function_of_the_present_meta():
    """It gets the meta with its refs; what it raises changes nothing."""
    async with Jobs().running(PubSub()) as jobs:
        alice = mail(jobs, "alice", 1)

        alice.update(lambda meta: {**meta, "n": meta["n"] + 1})
        with pytest.raises(ZeroDivisionError):
            alice.update(lambda meta: {"n": 1 // 0})

        assert [meta["n"] for meta in jobs.get_by_key(TOPIC, "alice")] == [2]


@virtually
async def test_what_can_not_be_tracked_is_refused():
    """Track twice, update of nothing, wrong keys and metas raise, and nothing changes."""
    async with Jobs().running(PubSub()) as jobs:
        alice = mail(jobs, "alice", 1)
        await jobs.settled()

        with pytest.raises(AlreadyTracked) as already:
            jobs.track(alice, "alice", {"n": 2}, topic=TOPIC)
        with pytest.raises(NotTracked) as not_tracked:
            jobs.update(alice, "bob", {"n": 2}, topic=TOPIC)
        with pytest.raises(NotTracked):
            jobs.update(Lease(jobs, TOPIC, "alice"), "alice", {"n": 2}, topic=TOPIC)
        with pytest.raises(InvalidKey):
            jobs.track(alice, b"alice", {"n": 2}, topic=TOPIC)  # type: ignore[arg-type]
        with pytest.raises(PayloadError):
            jobs.track(alice, "carol", [2], topic=TOPIC)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="topic is needed: Lease has no topic"):
            jobs.track(alice, "alice", {"n": 2})
        jobs.untrack(alice, "bob", topic=TOPIC)
        jobs.untrack_all(Lease(jobs, TOPIC, "bob"))
        await jobs.settled()

        assert (already.value.topic, already.value.key) == (TOPIC, "alice")
        assert (not_tracked.value.topic, not_tracked.value.key) == (TOPIC, "bob")
        assert [(key, meta["n"]) for key, meta in jobs.list(TOPIC)] == [("alice", 1)]
        assert len(jobs.diffs) == 1


# Owners.


@virtually
async def test_a_task_is_an_owner_however_it_ends():
    """What tasks track leaves when they return, raise or are cancelled."""

    async def work(key: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        jobs.track(task, key, {"n": 1}, topic=TOPIC)
        await asyncio.sleep(1)
        if key == "raises":
            raise LookupError
        if key == "cancelled":
            await asyncio.sleep(60)

    async with Jobs().running(PubSub()) as jobs:
        tasks = [asyncio.ensure_future(work(key)) for key in ("returns", "raises", "cancelled")]
        await asyncio.sleep(0.5)
        assert [key for key, _ in jobs.list(TOPIC)] == ["returns", "raises", "cancelled"]
        await asyncio.sleep(1)
        assert [key for key, _ in jobs.list(TOPIC)] == ["cancelled"]

        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

        assert jobs.list(TOPIC) == []


@virtually
async def test_a_channel_is_an_owner_and_knows_its_topic():
    """What a channel tracks goes with it; its own topic need not be said."""
    jobs = Jobs()

    class Room(Channel):
        async def join(self, topic: str, params: Any) -> None:
            jobs.track(self, "alice", {"n": 1})
            jobs.update(self, "alice", {"n": 2})
            assert jobs.is_tracked(self, "alice")
            jobs.track(self, "bob", {"n": 1})
            jobs.untrack(self, "bob")

    async with ChannelCase(Endpoint({}, trackers=[jobs])) as case:
        room = await case.client(Socket()).join("room:1", channel=Room)
        assert [(key, meta["n"]) for key, meta in jobs.list("room:1")] == [("alice", 2)]

        await room.close()

        assert jobs.list("room:1") == []


@virtually
async def test_a_lease_tracks_for_the_duration_of_a_block():
    """A lease may be updated, and leaves at the end of the block, even if that is an error."""

    async def work() -> None:
        async with jobs.lease(TOPIC, 7, {"n": 1}) as lease:
            lease.update({"n": 2})
            assert [(key, meta["n"]) for key, meta in jobs.list(TOPIC)] == [("7", 2)]
            raise LookupError

    async with Jobs().running(PubSub()) as jobs:
        with pytest.raises(LookupError):
            await work()

        assert jobs.list(TOPIC) == []


@virtually
async def test_who_has_ended_leaves_at_once():
    """TrackerBase for an owner that has ended is accepted, and undone with its own diff."""
    async with Jobs().running(PubSub()) as jobs:
        done = asyncio.ensure_future(asyncio.sleep(0))
        await done
        jobs.track(done, "alice", {"n": 1}, topic=TOPIC)
        await asyncio.sleep(0)
        await jobs.settled()

        assert jobs.list(TOPIC) == []
        assert jobs.diffs == [{TOPIC: ([("alice", 1)], [])}, {TOPIC: ([], [("alice", 1)])}]


# Diffs.


@virtually
async def test_each_operation_is_one_diff():
    """A track is a join, an untrack a leave, and an update is both, of the new and old meta."""
    async with Jobs().running(PubSub()) as jobs:
        alice = mail(jobs, "alice", 1)
        alice.update({"n": 2})
        jobs.untrack(alice, "alice", topic=TOPIC)
        await jobs.settled()

        assert jobs.diffs == [
            {TOPIC: ([("alice", 1)], [])},
            {TOPIC: ([("alice", 2)], [("alice", 1)])},
            {TOPIC: ([], [("alice", 2)])},
        ]


@virtually
async def test_the_metas_of_a_diff_have_their_refs():
    """The refs tell one presence from another, and a meta from the one before."""
    diffs: list[Any] = []

    class Refs(Tracker):
        def handle_diff(self, diff: Any) -> None:
            diffs.append(diff)

    async with Refs().running(PubSub()) as jobs:
        owner = Lease(jobs, TOPIC, "alice")
        first = jobs.track(owner, "alice", {}, topic=TOPIC)
        second = jobs.update(owner, "alice", {}, topic=TOPIC)
        await jobs.settled()

        old = ("alice", {"phx_ref": first})
        new = ("alice", {"phx_ref": second, "phx_ref_prev": first})
        assert diffs == [{TOPIC: ([old], [])}, {TOPIC: ([new], [old])}]


@pytest.mark.parametrize("how", ["ends", "is untracked"])
def test_all_that_an_owner_tracks_leaves_in_one_diff(how: str):
    """One diff covers all topics of an owner that ends, or that is untracked altogether."""

    async def play() -> None:
        async with Jobs().running(PubSub()) as jobs:
            alice = mail(jobs, "a", 1)
            jobs.track(alice, "b", {"n": 2}, topic=TOPIC)
            jobs.track(alice, "a", {"n": 3}, topic="queue:fax")
            mail(jobs, "a", 4)
            await jobs.settled()
            jobs.diffs.clear()

            if how == "ends":
                alice.end()
            else:
                jobs.untrack_all(alice)
            await jobs.settled()

            assert jobs.diffs == [
                {TOPIC: ([], [("a", 1), ("b", 2)]), "queue:fax": ([], [("a", 3)])}
            ]
            assert [(key, meta["n"]) for key, meta in jobs.list(TOPIC)] == [("a", 4)]
            assert jobs.list("queue:fax") == []

    run_virtually(play())


@virtually
async def test_an_owner_that_was_untracked_may_track_again():
    """Untrack all is not the end of the owner, whose end still lets all leave."""
    async with Jobs().running(PubSub()) as jobs:
        alice = mail(jobs, "alice", 1)
        jobs.untrack_all(alice)
        jobs.track(alice, "alice", {"n": 2}, topic=TOPIC)
        assert len(jobs.list(TOPIC)) == 1

        alice.end()

        assert jobs.list(TOPIC) == []


@virtually
async def test_a_diff_is_handled_after_the_change_is_visible():
    """Track returns before its diff is handled, which finds the change in the lists."""
    seen: list[int] = []

    class Looking(Tracker):
        def handle_diff(self, diff: Any) -> None:
            seen.append(len(self.list(TOPIC)))

    async with Looking().running(PubSub()) as jobs:
        mail(jobs, "alice", 1)
        assert seen == []
        await asyncio.sleep(0)

        assert seen == [1]


@virtually
async def test_subscribers_are_told_nothing():
    """A tracker broadcasts neither diffs nor states, whatever its topics are called."""
    jobs = Jobs()
    async with ChannelCase(Endpoint({}, trackers=[jobs])) as case:
        heard: list[Any] = []
        case.endpoint.pubsub.subscribe("room:1", heard.append)
        room = await case.client(Socket()).join("room:1", channel=Channel)
        mail(jobs, "alice", 1, "room:1").update({"n": 2})
        await jobs.settled()

        await room.refute_push("presence_diff")
        assert heard == []


# Messages.


@virtually
async def test_messages_are_handled_in_order_among_the_diffs():
    """What is sent waits for what was there before it, also for an async handler."""
    order: list[Any] = []

    class Ordered(Tracker):
        async def handle_diff(self, diff: Any) -> None:
            await asyncio.sleep(1)
            order.append("diff")

        def handle_info(self, message: Any) -> None:
            order.append(message)

    async with Ordered().running(PubSub()) as jobs:
        mail(jobs, "alice", 1)
        jobs.send("one")
        mail(jobs, "bob", 1)
        jobs.send("two")
        assert order == []
        await jobs.settled()

        assert order == ["diff", "one", "diff", "two"]


@virtually
async def test_a_handler_may_track_and_send():
    """What a handler does is handled after it."""

    class Worker(Jobs):
        def handle_info(self, message: Any) -> None:
            super().handle_info(message)
            if message == "work":
                mail(self, "alice", 1).end()
                self.send("done")

    async with Worker().running(PubSub()) as jobs:
        jobs.send("work")
        await jobs.settled()

        assert jobs.messages == ["work", "done"]
        assert jobs.diffs == [{TOPIC: ([("alice", 1)], [])}, {TOPIC: ([], [("alice", 1)])}]


def test_any_thread_may_send_and_only_the_loops_may_change():
    """A message of another thread arrives on the loop; other operations raise there."""

    class Waiting(Jobs):
        arrived: asyncio.Event

        def handle_info(self, message: Any) -> None:
            super().handle_info((message, threading.get_ident()))
            self.arrived.set()

    async def play() -> None:
        jobs = Waiting()
        jobs.arrived = asyncio.Event()

        def run() -> None:
            owner = Lease(jobs, TOPIC, "alice")
            for change in (
                lambda: jobs.track(owner, "alice", {}, topic=TOPIC),
                lambda: jobs.untrack(owner, "alice", topic=TOPIC),
                lambda: jobs.update(owner, "alice", {}, topic=TOPIC),
                lambda: jobs.untrack_all(owner),
                lambda: jobs.subscribe(TOPIC),
            ):
                with pytest.raises(WrongThread):
                    change()
            jobs.send("hello")

        async with jobs.running(PubSub()):
            await asyncio.to_thread(run)
            await asyncio.wait_for(jobs.arrived.wait(), 10)
            assert jobs.list(TOPIC) == []
        assert jobs.messages == [("hello", threading.get_ident())]

    asyncio.run(play())


@virtually
async def test_a_tracker_may_subscribe_to_topics():
    """Broadcasts of its topics are messages, once however often it subscribed, until the end."""
    jobs = Jobs()
    async with Endpoint({}, trackers=[jobs]).running() as endpoint:
        jobs.subscribe("news")
        jobs.subscribe("news")
        endpoint.broadcast("news", "hello", {"n": 1})
        endpoint.pubsub.broadcast("news", "anything")
        endpoint.broadcast("other", "hello")
        await jobs.settled()

        hello, anything = jobs.messages
        assert isinstance(hello, Broadcast)
        assert (hello.topic, hello.event) == ("news", "hello")
        assert anything == "anything"

        jobs.unsubscribe("news")
        jobs.unsubscribe("news")
        endpoint.pubsub.broadcast("news", "again")
        await jobs.settled()

        assert len(jobs.messages) == 2


@virtually
async def test_messages_that_nobody_expects_are_logged(caplog: pytest.LogCaptureFixture):
    """Without a handler a message is a warning, as in a GenServer."""

    class Plain(Tracker):
        """Handles nothing."""

    async with Plain().running(PubSub()) as jobs:
        jobs.send({"n": 1})
        mail(jobs, "alice", 1)
        await jobs.settled()

    (message,) = caplog.messages
    assert message.endswith("Plain received unexpected message in handle_info: {'n': 1}")


# Failures and bounds.


@pytest.mark.parametrize("fail", FAILURES)
def test_what_a_handler_raises_is_logged_and_ends_nothing(
    fail: Callable[[], Any], caplog: pytest.LogCaptureFixture
):
    """Phoenix's tracker would end with all that it tracks; here the next call follows."""

    class Failing(Jobs):
        def handle_diff(self, diff: Any) -> Any:
            super().handle_diff(diff)
            return fail()

        def handle_info(self, message: Any) -> Any:
            super().handle_info(message)
            return fail()

    async def play() -> None:
        async with Failing().running(PubSub()) as jobs:
            mail(jobs, "alice", 1)
            jobs.send("hello")
            mail(jobs, "bob", 2)
            await jobs.settled()

            assert len(jobs.diffs) == 2
            assert jobs.messages == ["hello"]
            assert [key for key, _ in jobs.list(TOPIC)] == ["alice", "bob"]

    run_virtually(play())
    assert len(caplog.messages) == 3
    assert [message.split("Failing.")[1] for message in caplog.messages] == [
        "handle_diff raised, the next is called",
        "handle_info raised, the next is called",
        "handle_diff raised, the next is called",
    ]


def test_too_much_that_waits_is_dropped_counted_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """So many diffs and messages wait for a slow handler and no more; the lists stay right."""
    monkeypatch.setattr(tracker, "MAX_WAITING", 3)
    pubsub = PubSub()

    async def play() -> None:
        async with SlowJobs().running(pubsub) as jobs:
            mail(jobs, "alice", 0)
            await asyncio.sleep(0.5)  # its diff is being handled, and waits no longer
            jobs.send("hello")
            for n in range(4):
                mail(jobs, "bob", n)
            jobs.send("dropped")
            await jobs.settled()

            assert jobs.messages == ["hello"]
            assert jobs.diffs == [
                {TOPIC: ([("alice", 0)], [])},
                {TOPIC: ([("bob", 0)], [])},
                {TOPIC: ([("bob", 1)], [])},
            ]
            assert len(jobs.list(TOPIC)) == 5
            jobs.send("as ever")
            await jobs.settled()
            assert jobs.messages == ["hello", "as ever"]

    run_virtually(play())
    assert pubsub.counters["tracker_full"] == 3
    assert caplog.messages == ["SlowJobs is too slow: dropped 1 diffs or messages"]


def test_ten_thousand_diffs_and_messages_may_wait():
    """The bound that ``handle_diff`` documents."""
    assert tracker.MAX_WAITING == 10_000


# Life.


@virtually
async def test_several_trackers_share_a_pubsub_and_nothing_else():
    """Two trackers of one endpoint have their own entries, handlers and owners."""
    mails, faxes = Jobs(name="mails"), Jobs(name="faxes")
    async with Endpoint({}, trackers=[mails, faxes]).running():
        owner = Lease(mails, TOPIC, "alice")
        mails.track(owner, "alice", {"n": 1}, topic=TOPIC)
        faxes.track(owner, "alice", {"n": 2}, topic=TOPIC)
        mails.send("hello")
        mails.untrack_all(owner)
        await mails.settled()
        await faxes.settled()

        assert mails.list(TOPIC) == []
        assert [meta["n"] for _, meta in faxes.list(TOPIC)] == [2]
        assert faxes.diffs == [{TOPIC: ([("alice", 2)], [])}]
        assert faxes.messages == []

        owner.end()
        assert faxes.list(TOPIC) == []


def test_it_runs_with_its_endpoint_again_and_again():
    """Outside a run it says what to do; on the next loop it begins with nobody."""
    jobs = Jobs()
    endpoint = Endpoint({}, trackers=[jobs])

    async def play() -> None:
        async with endpoint.running():
            assert jobs.list(TOPIC) == []
            mail(jobs, "alice", 1)
            await jobs.settled()
            assert len(jobs.list(TOPIC)) == 1

    for _ in range(2):
        asyncio.run(play())
        for use in (
            lambda: jobs.list(TOPIC),
            lambda: mail(jobs, "alice", 1),
            lambda: jobs.send("hello"),
            lambda: jobs.subscribe(TOPIC),
        ):
            with pytest.raises(NotStarted, match=r"Jobs .*trackers=\[…\]"):
                use()
    assert jobs.diffs == [{TOPIC: ([("alice", 1)], [])}] * 2
    assert jobs.messages == []


def test_a_loop_that_was_closed_took_its_run_along():
    """Whoever forgot to stop can start on another loop."""
    jobs, pubsub = Jobs(), PubSub()

    async def start() -> None:
        await pubsub.start()
        await jobs.start(pubsub)
        mail(jobs, "alice", 1)

    async def again() -> None:
        await start()
        assert len(jobs.list(TOPIC)) == 1
        await jobs.stop()
        with pytest.raises(NotStarted):
            jobs.list(TOPIC)
        await pubsub.stop()

    asyncio.run(start())
    asyncio.run(again())


@virtually
async def test_a_tracker_belongs_to_one_pubsub():
    """Several users of one PubSub share its run, which ends with the last; another is refused."""
    jobs, pubsub = Jobs(), PubSub()
    async with jobs.running(pubsub):
        async with Endpoint({}, trackers=[jobs], pubsub=pubsub).running():
            mail(jobs, "alice", 1)
            with pytest.raises(ConfigurationError, match="another PubSub"):
                await Endpoint({}, trackers=[jobs]).start()
        assert len(jobs.list(TOPIC)) == 1
    with pytest.raises(NotStarted):
        jobs.list(TOPIC)


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_stop_ends_the_handler_that_runs_and_forgets_the_rest(seconds: float):
    """When the tracker stops nothing more is handled, neither what waits nor who ends later."""

    async def play() -> None:
        async with SlowJobs().running(PubSub()) as jobs:
            alice = mail(jobs, "alice", 1)
            jobs.send("hello")
            await asyncio.sleep(seconds)
        assert asyncio.get_running_loop().time() == seconds
        alice.end()
        await asyncio.sleep(5)
        assert jobs.diffs == []
        assert jobs.messages == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(play())


@virtually
async def test_a_stop_tells_of_nobody_who_goes_with_it():
    """The end of the tracker is no leave, and who came in its last tick came too late."""
    async with Jobs().running(PubSub()) as jobs:
        alice = mail(jobs, "alice", 1)
        await jobs.settled()
    alice.end()
    async with jobs.running(PubSub()):
        mail(jobs, "bob", 2)
        jobs.send("hello")
    await asyncio.sleep(1)

    assert jobs.diffs == [{TOPIC: ([("alice", 1)], [])}]
    assert jobs.messages == []


def test_a_message_on_its_way_to_a_tracker_that_stops_is_dropped():
    """What another thread sent before the stop, and arrives after it, is handled by nobody."""

    async def play() -> None:
        jobs, pubsub = Jobs(), PubSub()
        async with pubsub.running():
            for _ in range(2):  # the next run gets none of it either
                async with jobs.running(pubsub):
                    thread = threading.Thread(target=jobs.send, args=("hello",))
                    thread.start()
                    thread.join()
            await asyncio.sleep(0.01)
            assert jobs.messages == []
            assert pubsub.counters["stopped"] == 2

    asyncio.run(play())


@virtually
async def test_a_stop_ends_its_subscriptions():
    """A stopped tracker hears nothing; the next run has to subscribe anew."""
    jobs, pubsub = Jobs(), PubSub()
    async with pubsub.running():
        async with jobs.running(pubsub):
            jobs.subscribe("news")
            assert len(pubsub.subscriptions("news")) == 1
        assert pubsub.subscriptions("news") == ()
        async with jobs.running(pubsub):
            pubsub.broadcast("news", "hello")
            await jobs.settled()

    assert jobs.messages == []
