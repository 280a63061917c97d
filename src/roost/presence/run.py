"""One presence at work, from start to stop.

Each change of the tracker is handed, at once and in order, to the ``Announcer`` of its topic, to
the watches, to the callbacks' queue and to the recorder of last-seen times. None of them runs code
of the application before the operation has returned.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from roost.aliases import EMPTY, Meta, Presences
from roost.channels.application import Failed, call, call_sync, close, name_of
from roost.channels.channel import Channel
from roost.channels.tasks import Tasks
from roost.exceptions import ChannelClosed, ConfigurationError, NotJoined, NotTracked, TopicFull
from roost.presence.changes import change_of
from roost.presence.definition import PresenceDefinition
from roost.presence.following.callbacks import Callbacks
from roost.presence.following.handle_metas import MetasHandler
from roost.presence.following.recorder import LastSeenRecorder
from roost.presence.following.watch import Watch, Watches
from roost.presence.notifying.announcer import Announcer
from roost.presence.notifying.fetch import Fetcher
from roost.presence.notifying.presence_list import PresenceList
from roost.presence.notifying.subscribers import NOTHING, holding_of
from roost.presence.owners.owned_tracker import OwnedTracker
from roost.presence.owners.owner import Owner
from roost.presence.policy import Policy
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscription
from roost.tracker.protocol import TrackerEvent, Updated
from roost.wire.messages import Broadcast
from roost.wire.payload import JsonPayload
from roost.wire.presence import decode_grouped, encode_count

__all__ = ["PresenceRun"]

_DEFAULT = Policy()

logger = logging.getLogger("roost.presence")


class PresenceRun:
    """One presence on one PubSub; made by ``start``.

    Attributes:
        presence: Its options, and what the application defines.
        pubsub: Running.
        is_unfetched: Nothing is fetched.
        owned: What this node tracks, by owners.
        tracker: To be read.
        metas: Calls ``handle_metas``; None if there is none.
    """

    def __init__(self, presence: PresenceDefinition, pubsub: PubSub) -> None:
        defined = presence.defines
        self.presence = presence
        self.pubsub = pubsub
        self.is_unfetched = not defined("fetch")
        self.loop = asyncio.get_running_loop()
        # What is done for several, or for other nodes, is done in nobody's context.
        self._context = contextvars.copy_context()
        self._tasks = Tasks(self._context)
        self.owned = OwnedTracker(pubsub, presence.name, self._changed, self._grace_of)
        self.tracker = self.owned.protocol
        self.fetcher = Fetcher(
            presence, pubsub.encoder, self._tasks, self._context, pubsub.name_limits
        )
        self.metas = MetasHandler(presence, self._context) if defined("handle_metas") else None
        # Of topics where somebody is, or of which something was not sent yet.
        self._announcers: dict[str, Announcer] = {}
        self._watches = Watches(self.tracker)
        self._callbacks: Callbacks | None = None
        self._last_seen: LastSeenRecorder | None = None
        if presence.last_seen_store is not None:
            self._last_seen = LastSeenRecorder(presence.last_seen_store, pubsub.counters)
        if defined("on_join") or defined("on_update") or defined("on_leave"):
            self._callbacks = Callbacks(presence, self._tasks, self._context, pubsub.counters)

    @classmethod
    async def start(cls, presence: PresenceDefinition, pubsub: PubSub) -> Self:
        run = cls(presence, pubsub)
        try:
            if run.metas is not None:
                await run.metas.start()
            if run._last_seen is not None:
                await run._last_seen.start()
            run.owned.start()
        except BaseException:
            run.owned.stop()
            if run._last_seen is not None:
                await run._last_seen.stop()
            raise
        return run

    # Changing.

    def track(self, owner: Owner, topic: str, key: str, meta: Meta, *, hidden: bool = False) -> str:
        policy = self._policy(topic, is_asked_for=True)
        if not hidden:
            self._check_room(policy, topic, key)
        if not policy.keep_metas:
            meta = EMPTY
        return self.owned.track(owner, topic, key, meta, hidden=hidden)

    def update(
        self, owner: Owner, topic: str, key: str, meta: Meta | Callable[[dict[str, Any]], Meta]
    ) -> str:
        if self._policy(topic).keep_metas:
            return self.owned.update(owner, topic, key, meta)
        entry = self.owned.tracked(owner, topic, key)
        if entry is None:
            raise NotTracked(topic, key)
        return entry.ref  # there is no meta to replace

    def show(self, owner: Owner, topic: str, key: str) -> str:
        entry = self.owned.tracked(owner, topic, key)
        if entry is not None and entry.hidden:
            self._check_room(self._policy(topic, is_asked_for=True), topic, key)
        return self.owned.show(owner, topic, key)

    def _check_room(self, policy: Policy, topic: str, key: str) -> None:
        """Raise if ``key`` would be one member too many."""
        if (
            policy.max_members is not None
            and self.tracker.count_keys(topic) >= policy.max_members
            and not self.tracker.has_key(topic, key)
        ):
            raise TopicFull(topic, key, policy.max_members)

    def _policy(self, topic: str, *, is_asked_for: bool = False) -> Policy:
        """The policy of a topic; one that has an announcer keeps it.

        Args:
            topic: The topic.
            is_asked_for: A ``policy`` that fails raises for the caller. Otherwise it is logged,
                and the topic gets the default policy, so that its changes are sent.
        """
        announcer = self._announcers.get(topic)
        if announcer is not None:
            return announcer.policy
        method = self.presence.policy
        try:
            policy = call(None, method, topic)
            if isinstance(policy, Policy):
                return policy
            close(policy)
            reason = f"it returned {type(policy).__name__}, expected a Policy, of a def"
            raise Failed(name_of(method), TypeError(reason))
        except Failed as failed:
            if is_asked_for:
                raise failed.error from failed
            logger.error("%s failed for %r", failed.name, topic, exc_info=failed.error)
            return _DEFAULT

    def _grace_of(self, topic: str) -> float:
        return self._policy(topic).leave_grace

    def _changed(self, events: Sequence[TrackerEvent]) -> None:
        for event in events:
            entry = event.new if isinstance(event, Updated) else event.entry
            announcer = self._announcers.get(entry.topic)
            if announcer is None:
                policy = self._policy(entry.topic)
                announcer = Announcer(entry.topic, event.version - 1, policy, self)
                self._announcers[entry.topic] = announcer
            announcer.changed(event)
            if self._last_seen is not None:
                self._last_seen.seen(entry.key, time.time())
        self._watches.changed(events)
        if self._callbacks is not None:
            own_prefix = self.tracker.origin.ref_prefix
            for event in events:
                self._callbacks.changed(change_of(event, own_prefix))

    # Reading.

    async def list(self, topic: str) -> PresenceList:
        if self.is_unfetched:
            announcer = self._announcers.get(topic)
            state = b"{}" if announcer is None else announcer.state()
            version = self.tracker.version
        else:
            state, version = await self.fetcher.list(topic, self.tracker)
            announcer = self._announcers.get(topic)
        if announcer is not None:
            announcer.list_made()
        return PresenceList(state, topic, version, self._push)

    async def list_for(self, channel: Channel[Any]) -> PresenceList:
        """A list that a channel requests, and probably pushes at once.

        Until it has had the time for that, its client is sent no diffs, as in ``push_list``.
        """
        subscription = channel.subscription
        if self.is_unfetched or subscription is None:
            return await self.list(channel.topic)
        with ExitStack() as stack:
            stack.enter_context(self._waiting(subscription))
            presences = await self.list(channel.topic)
            self.loop.call_soon(stack.pop_all().close)
        return presences

    async def get_by_key(self, topic: str, key: str) -> dict[str, Any] | None:
        return await self.fetcher.get_by_key(topic, key, self.tracker)

    def list_hidden(self, topic: str) -> Presences:
        return decode_grouped(self.tracker.list_hidden(topic))

    def count(self, topic: str) -> JsonPayload:
        """The payload of a ``presence_count``."""
        tracker = self.tracker
        return JsonPayload(encode_count(tracker.count_keys(topic), tracker.count_entries(topic)))

    def online(self, keys: Iterable[str]) -> set[str]:
        return self._watches.online(keys)

    async def last_seen(self, keys: Collection[str]) -> dict[str, float]:
        if self._last_seen is None:
            name = type(self.presence).__qualname__
            raise ConfigurationError(f"{name} keeps no times: give it a last_seen_store")
        were_online = self.online(keys)  # who leaves during the read was here a moment ago
        times = await self._last_seen.read(keys)
        now = time.time()
        return times | dict.fromkeys(were_online | self.online(keys), now)

    def watch(self, of: str | frozenset[str]) -> Watch:
        return self._watches.watch(of)

    async def push_list(self, channel: Channel[Any]) -> PresenceList:
        """Push a channel the list of its topic, and no diffs before it."""
        subscription = channel.subscription
        if subscription is None or holding_of(subscription, self) is None:
            raise ChannelClosed(channel.topic) if channel.has_ended else NotJoined(channel.topic)
        topic = channel.topic
        if (announcer := self._announcers.get(topic)) is not None:
            announcer.switch()
        if self._is_counting(topic):  # nobody is shown a list, so none is made
            presences = PresenceList(b"{}", topic, self.tracker.version, self._push)
            channel.push(self.presence.state_event, presences)
            return presences
        if self.is_unfetched:  # it takes no time
            presences = await self.list(topic)
            channel.push(self.presence.state_event, presences)
            return presences
        with self._waiting(subscription):
            presences = await self.list(topic)
            channel.push(self.presence.state_event, presences)
        return presences

    def refresh(self, subscription: Subscription) -> None:
        """Send a subscription the list of its topic, as soon as it is made."""
        self.spawn(self._refresh(subscription))

    async def _refresh(self, subscription: Subscription) -> None:
        topic = subscription.topic
        with self._waiting(subscription):
            presences = await self.list(topic)
            if subscription not in self.pubsub.subscriptions(topic):
                return
            for event, payload in self._push(presences, subscription, self.presence.state_event):
                self.dispatch((subscription,), Broadcast(topic, event, payload))

    @contextmanager
    def _waiting(self, subscription: Subscription) -> Iterator[None]:
        """A list is being made for a subscription: it is sent no diffs meanwhile.

        What bounds that is the time that a list may take.
        """
        holding = holding_of(subscription, self)
        assert holding is not None, "only channels wait for lists"
        holding.list_count += 1
        try:
            yield
        finally:
            holding.list_count -= 1
            if not holding.list_count:
                announcer = self._announcers.get(subscription.topic)
                if announcer is not None:
                    announcer.list_ended()

    def _push(
        self, presences: PresenceList, subscription: object, event: str
    ) -> Sequence[tuple[str, JsonPayload]]:
        """What a channel sends when it pushes a list as ``event``."""
        holding = holding_of(subscription, self)
        if event != self.presence.state_event or holding is None:
            return ((event, presences),)
        assert isinstance(subscription, Subscription)
        topic = subscription.topic
        if topic != presences.topic:
            return ((event, presences),)
        announcer = self._announcers.get(topic)
        pushes: list[tuple[str, JsonPayload]] = []
        state: JsonPayload = presences
        version = presences.version
        if self._is_counting(topic):
            pushes.append((self.presence.count_event, self.count(topic)))
            state, version = JsonPayload(b"{}"), self.tracker.version
            if announcer is not None:
                announcer.subscribers.forget_count(unless=self.count(topic))
        elif announcer is None:
            if presences.encoded != b"{}":  # it is old: nobody is there any more
                state, version = JsonPayload(b"{}"), self.tracker.version
        elif announcer.subscribers.is_past(holding, version):
            if not self.is_unfetched:
                self.refresh(subscription)
                return ()
            state, version = JsonPayload(announcer.state()), self.tracker.version
        pushes.append((event, state))
        level = NOTHING if announcer is None else announcer.subscribers.version
        size = len(state.encoded)
        if holding.receive_state(version, level, subscription.metadata, size):
            pushes.append(pushes[-1])
        return pushes

    def dispatch(self, subscriptions: Sequence[Subscription], message: Broadcast) -> None:
        """Deliver a state or diff to subscriptions, in the way that the application chose."""
        try:
            call_sync(self._context.copy(), self.presence.dispatch, subscriptions, message)
        except Failed as failed:  # the topic must not fall silent
            logger.error("%s failed for %r", failed.name, message.topic, exc_info=failed.error)

    def _is_counting(self, topic: str) -> bool:
        announcer = self._announcers.get(topic)
        if announcer is None:
            return self._policy(topic).counts(0, is_counting=False)
        return announcer.is_counting

    # Life.

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine that fetches or sends; ``settled`` waits for it, ``stop`` cancels it."""
        return self._tasks.spawn(coroutine)

    def forget_if_empty(self, topic: str) -> None:
        """A topic has nothing more to send: forget it if nobody is there, or waits for a list."""
        if not self.tracker.count_entries(topic) and self._announcers[topic].can_be_forgotten:
            del self._announcers[topic]

    async def settled(self) -> None:
        """Send everything that is to be sent, and wait for its fetches."""
        while True:
            if self._callbacks is not None:
                self._callbacks.flush()
            for announcer in list(self._announcers.values()):
                announcer.flush()
            if self._tasks:
                await self._tasks.wait()
            elif all(announcer.is_idle for announcer in self._announcers.values()):
                break
            else:
                await asyncio.sleep(0)  # a channel that has joined has yet to begin

    def stop(self) -> None:
        """Forget everything; what was not sent yet is never sent."""
        if self._last_seen is not None:
            now = time.time()
            for entry in self.tracker.list_all():
                self._last_seen.seen(entry.key, now)
        for announcer in self._announcers.values():
            announcer.stop()
        self._announcers.clear()
        self.owned.stop()
        self._watches.stop()
        if self._callbacks is not None:
            self._callbacks.stop()
        self._tasks.cancel()

    async def stopped(self) -> None:
        await self._tasks.end()
        if self._last_seen is not None:
            await self._last_seen.stop()
