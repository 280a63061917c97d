"""The asyncio shell around the tracker, from start to stop.

An operation changes the tracker at once; its events go to the ``Announcer`` of their topic. Owners
are numbers to the tracker; here is who they are.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from roost.aliases import Meta
from roost.channels.channel import Channel
from roost.channels.fastlane import Fastlane, dispatch
from roost.crdt.origin import OriginId
from roost.exceptions import NotJoined
from roost.presence.announcer import Announcer
from roost.presence.fetching import Fetcher
from roost.presence.listener import Told, listener_of
from roost.presence.listing import PresenceList
from roost.presence.owner import Owner
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscription
from roost.tracker.protocol import TrackerProtocol, Updated

if TYPE_CHECKING:
    from roost.presence.presence import Presence

__all__ = ["PresenceRun"]


class PresenceRun:
    """One presence on one PubSub, from start to stop.

    Args:
        presence: Its options, and its ``fetch``.
        pubsub: Running.
        is_bare: Nothing is fetched.
    """

    def __init__(self, presence: Presence, pubsub: PubSub, *, is_bare: bool) -> None:
        self.presence = presence
        self.pubsub = pubsub
        self.is_bare = is_bare
        self.loop = asyncio.get_running_loop()
        origin = OriginId(pubsub.node_name, time.time_ns() // 1000, secrets.randbits(64))
        self.tracker = TrackerProtocol(origin, encoder=pubsub.encoder)
        self.fetcher = Fetcher(presence, pubsub.encoder, self.spawn)
        self._owners: dict[Owner, int] = {}
        self._last_owner = 0
        # Of topics where somebody is, or of which something is untold.
        self._announcers: dict[str, Announcer] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # Changing.

    def track(self, owner: Owner, topic: str, key: str, meta: Meta) -> str:
        self.pubsub.check_thread("track")
        ref = self.tracker.track(topic, key, meta, owner=self._register(owner))
        self._changed()
        return ref

    def untrack(self, owner: Owner, topic: str, key: str) -> None:
        self.pubsub.check_thread("untrack")
        owner_id = self._owners.get(owner)
        if owner_id is not None and self.tracker.untrack(topic, key, owner=owner_id):
            self._changed()

    def update(
        self, owner: Owner, topic: str, key: str, meta: Meta | Callable[[dict[str, Any]], Meta]
    ) -> str:
        self.pubsub.check_thread("update")
        # Number 0 belongs to nobody: an unknown owner gets the tracker's own error.
        ref = self.tracker.update(topic, key, meta, owner=self._owners.get(owner, 0))
        self._changed()
        return ref

    def tracks(self, owner: Owner, topic: str, key: str) -> bool:
        owner_id = self._owners.get(owner)
        return owner_id is not None and self.tracker.tracked(topic, key, owner=owner_id) is not None

    def _register(self, owner: Owner) -> int:
        owner_id = self._owners.get(owner)
        if owner_id is None:
            owner.add_done_callback(self._owner_ended)
            self._last_owner += 1
            owner_id = self._owners[owner] = self._last_owner
        return owner_id

    def _owner_ended(self, owner: Owner) -> None:
        owner_id = self._owners.pop(owner, None)
        if owner_id is not None and self.tracker.untrack_owner(owner_id):
            self._changed()

    def _changed(self) -> None:
        for event in self.tracker.events():
            topic = event.new.topic if isinstance(event, Updated) else event.entry.topic
            announcer = self._announcers.get(topic)
            if announcer is None:
                announcer = self._announcers[topic] = Announcer(topic, event.version - 1, self)
            announcer.note(event)

    # Reading.

    async def list(self, topic: str) -> PresenceList:
        if self.is_bare:
            announcer = self._announcers.get(topic)
            state = b"{}" if announcer is None else announcer.state()
            version = self.tracker.version
        else:
            state, version = await self.fetcher.list(topic, self.tracker)
            announcer = self._announcers.get(topic)
        if announcer is not None:
            announcer.hand_out()
        return PresenceList(state, topic, version, self._pushed)

    async def get_by_key(self, topic: str, key: str) -> dict[str, Any] | None:
        return await self.fetcher.get_by_key(topic, key, self.tracker)

    def count_users(self, topic: str) -> int:
        return self.tracker.count_keys(topic)

    def count_connections(self, topic: str) -> int:
        return self.tracker.count_entries(topic)

    async def push_list(self, channel: Channel[Any]) -> PresenceList:
        """Push a channel the list of its topic, and no diffs before it."""
        subscription = channel.subscription
        listener = listener_of(subscription, self)
        if subscription is None or listener is None:
            raise NotJoined(channel.topic)
        if listener.held is not None:  # one that began earlier holds diffs already
            presences = await self.list(channel.topic)
            channel.push(self.presence.state_event, presences)
            return presences
        held = listener.held = []
        version = -1  # if there will be no state, all that was held is told
        try:
            presences = await self.list(channel.topic)
            channel.push(self.presence.state_event, presences)
            version = presences.version
        finally:
            listener.held = None
            if channel.is_joined:
                for end, message in held:
                    if end > version:
                        dispatch((subscription,), None, message)
                        subscription.metadata.was_told = True
                        listener.told = max(listener.told, Told.DIFFS)
        return presences

    def _pushed(self, presences: PresenceList, subscription: object, event: str) -> bool:
        """A list was pushed: remember what the client knows now.

        Returns:
            Whether the client needs it twice: it may apply diffs that it held back, which an
            earlier channel of it was told, on top of the first.
        """
        listener = listener_of(subscription, self)
        if event != self.presence.state_event or listener is None:
            return False
        assert isinstance(subscription, Subscription)
        if subscription.topic != presences.topic:
            return False
        lane: Fastlane = subscription.metadata
        is_needed_twice = lane.was_told_before and listener.told is not Told.STATE
        announcer = self._announcers.get(presences.topic)
        if announcer is not None and (is_needed_twice or listener.told is not Told.DIFFS):
            announcer.pushed(subscription, presences.version)
        listener.told = Told.STATE
        return is_needed_twice

    # Life.

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine that fetches or tells; ``settled`` waits for it, ``stop`` cancels it."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def forget_if_empty(self, topic: str) -> None:
        """A topic has nothing more to tell: forget it if nobody is there."""
        if not self.tracker.count_entries(topic):
            del self._announcers[topic]

    async def settled(self) -> None:
        """Tell everything that is to be told, and wait for its fetches."""
        while True:
            for announcer in list(self._announcers.values()):
                announcer.flush()
            if not self._tasks:
                break
            await asyncio.wait(self._tasks)

    async def stop(self) -> None:
        """Forget everything; what was not told yet stays untold."""
        for announcer in self._announcers.values():
            announcer.stop()
        self._announcers.clear()
        self._owners.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
