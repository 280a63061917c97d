"""The conformance suite for adapters passes on a good one, and fails on each that breaks a rule."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from roost.exceptions import AdapterError
from roost.pubsub.adapter import LinkEvents
from roost.testing.adapters import AdapterConformance, LinkConformance, OutageConformance


class MemoryEngine:
    """An engine in memory that can be broken, for adapters of a given kind."""

    def __init__(self, kind: type[MemoryAdapter]) -> None:
        self.kind = kind
        self.adapters: list[MemoryAdapter] = []
        self.is_stopped = False
        self.is_stalled = False
        self.password = "secret"

    def adapter(self, node_name: str | None = None, namespace: str = "suite") -> MemoryAdapter:
        return self.kind(self, node_name or secrets.token_hex(4), namespace)

    def missing(self) -> MemoryAdapter:
        engine = MemoryEngine(self.kind)
        engine.is_stopped = True
        return engine.adapter("missing")

    def refused(self) -> MemoryAdapter:
        adapter = self.adapter("refused")
        adapter.password = "wrong"
        return adapter

    async def stop(self) -> None:
        self.is_stopped = True
        for adapter in self.adapters:
            adapter.detach()

    async def start(self) -> None:
        self.is_stopped = False
        for adapter in self.adapters:
            adapter.attach()

    async def stall(self) -> None:
        self.is_stalled = True
        for adapter in self.adapters:
            asyncio.get_running_loop().call_later(0.2, adapter.notice_stall)

    async def resume(self) -> None:
        self.is_stalled = False
        for adapter in self.adapters:
            adapter.attach()


class MemoryAdapter:
    """A good adapter; each of its methods is short, so that a bug can be planted by overriding."""

    reaches_others = True
    is_isolated = False
    max_size = None
    max_waiting_count = 1_000

    def __init__(self, engine: MemoryEngine, node_name: str, namespace: str) -> None:
        self.engine = engine
        self.node_name = node_name
        self.namespace = namespace
        self.password = engine.password
        self.link = ""
        self.is_attached = False
        self.is_running = False
        self.counters: Counter[str] = Counter()
        self.waiting_count = 0
        self.deliver: Callable[[bytes], None]
        self.links: LinkEvents
        self.loop: asyncio.AbstractEventLoop

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        await asyncio.sleep(0)
        if self.engine.is_stopped:
            raise AdapterError("memory:", "there is no engine")
        if self.password != self.engine.password:
            raise AdapterError("memory:", self.refusal())
        self.deliver, self.links, self.loop = deliver, links, asyncio.get_running_loop()
        self.link = self.new_link()
        self.is_running = self.is_attached = True
        for other in self.others():
            self.tell_up(other)
            other.tell_up(self)
        self.engine.adapters.append(self)

    @property
    def free_size(self) -> int:
        is_free = self.is_attached and not self.waiting_count
        return 1 << 20 if is_free else 0

    async def close(self) -> None:
        if self.is_running:
            self.is_running = self.is_attached = False
            self.engine.adapters.remove(self)
            for other in self.others():
                other.tell_down(self)

    def publish(self, data: bytes) -> None:
        self.send(data, self.others())

    def publish_to(self, node_name: str, data: bytes) -> None:
        self.send(data, [other for other in self.others() if other.node_name == node_name])

    def send(self, data: bytes, receivers: list[MemoryAdapter]) -> None:
        if not self.is_attached:
            self.counters["detached"] += 1
        elif self.engine.is_stalled:
            self.wait_or_drop()
        else:
            for receiver in receivers:
                self.loop.call_soon(receiver.receive, data)

    def wait_or_drop(self) -> None:
        if self.waiting_count >= self.max_waiting_count:
            self.counters["full"] += 1
        else:
            self.waiting_count += 1

    def receive(self, data: bytes) -> None:
        if self.is_running:
            try:
                self.deliver(data)
            except RuntimeError:
                pass

    def others(self) -> list[MemoryAdapter]:
        return [
            other
            for other in self.engine.adapters
            if other is not self and other.namespace == self.namespace
        ]

    def tell_up(self, other: MemoryAdapter) -> None:
        self.links.link_up(other.node_name, other.link)

    def tell_down(self, other: MemoryAdapter) -> None:
        self.links.link_down(other.link)

    def new_link(self) -> str:
        return secrets.token_hex(4)

    def refusal(self) -> str:
        return "wrong credentials"

    def notice_stall(self) -> None:
        if self.engine.is_stalled:
            self.detach()

    def detach(self) -> None:
        if self.is_attached:
            self.is_attached = False
            self.links.detached()

    def attach(self) -> None:
        if not self.is_attached:
            self.is_attached = True
            self.links.attached()


class Suite(AdapterConformance, LinkConformance, OutageConformance):
    """All of it, with little patience: what happens in memory happens at once."""

    patience = 0.5
    flood_count = 3_000
    max_waiting_size = 1_000 * 1024
    close_timeout = 0.2


class TestAGoodAdapter(Suite):
    """The suite passes on an adapter that breaks no rule."""

    @pytest.fixture
    def engine(self) -> MemoryEngine:
        return MemoryEngine(MemoryAdapter)


class Echoes(MemoryAdapter):
    def publish(self, data: bytes) -> None:
        self.send(data, [self, *self.others()])


class SendsTwice(MemoryAdapter):
    def publish(self, data: bytes) -> None:
        self.send(data, self.others() * 2)


class TellsAll(MemoryAdapter):
    def publish_to(self, node_name: str, data: bytes) -> None:
        self.publish(data)


class SendsToPrefixes(MemoryAdapter):
    def publish_to(self, node_name: str, data: bytes) -> None:
        self.send(data, [other for other in self.others() if node_name.startswith(other.node_name)])


class CutsNamesAtDots(MemoryAdapter):
    def publish_to(self, node_name: str, data: bytes) -> None:
        super().publish_to(node_name.split(".")[0], data)


class ForgetsOrder(MemoryAdapter):
    def publish_to(self, node_name: str, data: bytes) -> None:
        self.loop.call_soon(super().publish_to, node_name, data)


class LosesEmpty(MemoryAdapter):
    def receive(self, data: bytes) -> None:
        if data:
            super().receive(data)


class LosesLarge(MemoryAdapter):
    def receive(self, data: bytes) -> None:
        if len(data) < 1_000_000:
            super().receive(data)


class SplitsLines(MemoryAdapter):
    def receive(self, data: bytes) -> None:
        super().receive(data.rstrip(b"\r\n"))


class KnowsItselfByName(MemoryAdapter):
    def others(self) -> list[MemoryAdapter]:
        return [other for other in super().others() if other.node_name != self.node_name]


class MixesNamespaces(MemoryAdapter):
    def others(self) -> list[MemoryAdapter]:
        return [other for other in self.engine.adapters if other is not self]


class DeliversAfterClose(MemoryAdapter):
    async def close(self) -> None:
        self.is_attached = False


class FailsAfterClose(MemoryAdapter):
    def publish(self, data: bytes) -> None:
        assert self.is_running
        super().publish(data)


class ForgetsWhatWaits(MemoryAdapter):
    def receive(self, data: bytes) -> None:
        if len(self.engine.adapters) > 1:  # a sender that has closed took it along
            super().receive(data)


class ClosesOnce(MemoryAdapter):
    async def close(self) -> None:
        self.engine.adapters.remove(self)
        self.is_attached = False


class StartsOnce(MemoryAdapter):
    has_started = False

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        assert not self.has_started
        self.has_started = True
        await super().start(deliver, links)


class KeepsItsLoop(MemoryAdapter):
    first_loop: asyncio.AbstractEventLoop | None = None

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        await super().start(deliver, links)
        self.first_loop = self.loop = self.first_loop or self.loop


class LeavesATask(MemoryAdapter):
    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        self.task = asyncio.create_task(asyncio.sleep(20))
        await super().start(deliver, links)


class LeavesATaskIfCancelled(MemoryAdapter):
    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        task = asyncio.create_task(asyncio.sleep(20))
        await super().start(deliver, links)
        task.cancel()


class EndsWithDeliver(MemoryAdapter):
    def receive(self, data: bytes) -> None:
        if self.is_running:
            try:
                self.deliver(data)
            except RuntimeError:
                self.is_running = False


class AlwaysAttached(MemoryAdapter):
    async def close(self) -> None:
        await super().close()
        self.is_attached = True


class TellsNoLinks(MemoryAdapter):
    def tell_up(self, other: MemoryAdapter) -> None:
        pass


class TellsNoNewcomer(MemoryAdapter):
    def tell_up(self, other: MemoryAdapter) -> None:
        if self in self.engine.adapters:
            super().tell_up(other)


class TellsLinksTwice(MemoryAdapter):
    def tell_up(self, other: MemoryAdapter) -> None:
        super().tell_up(other)
        super().tell_up(other)


class TellsNoEnds(MemoryAdapter):
    def tell_down(self, other: MemoryAdapter) -> None:
        pass


class TellsWrongEnds(MemoryAdapter):
    def tell_down(self, other: MemoryAdapter) -> None:
        for node in [other, *self.others()]:
            super().tell_down(node)


class HasOneLink(MemoryAdapter):
    def new_link(self) -> str:
        return f"link of {self.node_name}"


class TellsNoDetachment(MemoryAdapter):
    def detach(self) -> None:
        self.is_attached = False


class TellsNoAttachment(MemoryAdapter):
    def attach(self) -> None:
        self.is_attached = True


class StaysDetached(MemoryAdapter):
    def attach(self) -> None:
        pass


class TakesDetachmentForDeath(MemoryAdapter):
    def detach(self) -> None:
        super().detach()
        for other in self.others():
            self.tell_down(other)


class NoticesNoStall(MemoryAdapter):
    def notice_stall(self) -> None:
        pass


class CountsNothing(MemoryAdapter):
    def send(self, data: bytes, receivers: list[MemoryAdapter]) -> None:
        super().send(data, receivers)
        self.counters.clear()


class AlwaysHasRoom(MemoryAdapter):
    free_size = 1 << 20


class NeverHasRoom(MemoryAdapter):
    free_size = 0


class HasNoBound(MemoryAdapter):
    max_waiting_count = 1_000_000


class Blocks(MemoryAdapter):
    has_blocked = False

    def wait_or_drop(self) -> None:
        if not self.has_blocked:
            self.has_blocked = True
            threading.Event().wait(0.6)
        super().wait_or_drop()


class WaitsAtClose(MemoryAdapter):
    async def close(self) -> None:
        if self.engine.is_stalled:
            await asyncio.sleep(60)
        await super().close()


class RaisesItsOwnError(MemoryAdapter):
    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        try:
            await super().start(deliver, links)
        except AdapterError as error:
            raise OSError(111, "refused") from error


class ShowsThePassword(MemoryAdapter):
    def refusal(self) -> str:
        return f"wrong credentials, user:{self.password}"


class DoesNotTellWhy(MemoryAdapter):
    def refusal(self) -> str:
        return "there is no engine"


BUGS: dict[type[MemoryAdapter], str] = {
    AlwaysHasRoom: "test_a_flood_at_a_stalled_engine_is_bounded",
    NeverHasRoom: "test_it_says_how_it_is",
    Echoes: "test_a_broadcast_reaches_all_others_and_not_its_sender",
    SendsTwice: "test_a_broadcast_reaches_all_others_and_not_its_sender",
    TellsAll: "test_a_message_for_one_node_reaches_it_alone",
    SendsToPrefixes: "test_a_message_for_an_unknown_node_reaches_nobody",
    CutsNamesAtDots: "test_a_node_may_have_any_name",
    ForgetsOrder: "test_messages_of_a_sender_keep_their_order",
    LosesEmpty: "test_messages_are_any_bytes",
    LosesLarge: "test_messages_are_any_bytes",
    SplitsLines: "test_messages_are_any_bytes",
    KnowsItselfByName: "test_two_nodes_of_one_name_hear_each_other",
    MixesNamespaces: "test_namespaces_are_apart",
    DeliversAfterClose: "test_nothing_is_delivered_after_close",
    FailsAfterClose: "test_nothing_is_delivered_after_close",
    ForgetsWhatWaits: "test_what_was_published_before_close_is_sent",
    ClosesOnce: "test_close_is_idempotent",
    LeavesATask: "test_close_leaves_no_task",
    StartsOnce: "test_it_starts_again",
    KeepsItsLoop: "test_it_starts_again_on_another_loop",
    LeavesATaskIfCancelled: "test_a_cancelled_start_leaves_nothing",
    EndsWithDeliver: "test_an_error_of_deliver_does_not_end_it",
    AlwaysAttached: "test_it_says_how_it_is",
    TellsNoLinks: "test_nodes_are_told_of_each_other",
    TellsNoNewcomer: "test_a_newcomer_is_told_of_silent_nodes",
    TellsLinksTwice: "test_nodes_are_told_of_each_other",
    TellsNoEnds: "test_a_link_that_ends_is_told_of",
    TellsWrongEnds: "test_a_link_that_ends_is_told_of",
    HasOneLink: "test_each_start_has_a_link_of_its_own",
    TellsNoDetachment: "test_a_restart_of_the_engine_is_survived",
    TellsNoAttachment: "test_a_restart_of_the_engine_is_survived",
    StaysDetached: "test_a_restart_of_the_engine_is_survived",
    TakesDetachmentForDeath: "test_a_restart_of_the_engine_is_survived",
    NoticesNoStall: "test_an_engine_that_stalls_is_noticed",
    CountsNothing: "test_a_flood_at_a_stalled_engine_is_bounded",
    HasNoBound: "test_a_flood_at_a_stalled_engine_is_bounded",
    Blocks: "test_a_flood_at_a_stalled_engine_is_bounded",
    WaitsAtClose: "test_close_does_not_wait_for_a_stalled_engine",
    RaisesItsOwnError: "test_start_says_that_there_is_no_engine",
    ShowsThePassword: "test_start_says_that_it_was_refused",
    DoesNotTellWhy: "test_start_says_that_it_was_refused",
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
async def test_the_suite_fails_on_a_bug(bug: type[MemoryAdapter]):
    """For each rule there is a test that fails on an adapter that breaks it."""
    engine = MemoryEngine(bug)
    test = getattr(Suite(), BUGS[bug])

    try:
        with pytest.raises((Exception, pytest.fail.Exception)):
            await run(test, engine)
    finally:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


def test_each_test_of_the_suite_has_caught_a_bug():
    """No test of the suite is one that can't fail."""
    tests = {name for name, _ in inspect.getmembers(Suite) if name.startswith("test_")}

    assert {*BUGS.values()} == tests


async def run(test: Callable[..., Awaitable[None]], engine: MemoryEngine) -> None:
    for arguments in arguments_of(test):
        await test(engine, **arguments)


def arguments_of(test: Callable[..., object]) -> Iterator[dict[str, object]]:
    """What a test is parametrized with."""
    marks = [
        mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"
    ]  # of one parameter at most
    if not marks:
        yield {}
    for mark in marks:
        name, values = mark.args
        for value in values:
            yield {name: value}
