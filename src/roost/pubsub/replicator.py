"""The trackers of a node at work: asyncio around ``ReplicationProtocol``.

There is one for each run of a ``PubSub``. Its trackers share one slice, and the conversation with
other nodes; without other nodes there is nobody to talk to. What one message changes is changed in
all trackers and topics before any of them is notified.

A failure in here loses no more than its own step. A message that can't be encoded or sent, a
tracker that raises when it is notified, a rule that fails: each is contained, counted and logged,
and the timer is set in any case, since a node without its timer is silent for ever. ``is_failing``
is true for a minute after a failure.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, TypedDict

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.exceptions import ConfigurationError
from roost.naming import DEFAULT_LIMITS, MAX_NAME_SIZE, NameLimits, configured_name
from roost.pubsub.adapter import Adapter
from roost.strict_json import JsonEncoder
from roost.tracker.messages import encodable, encode_message
from roost.tracker.node import RENAMED, Envelope, Room
from roost.tracker.options import ReplicationOptions
from roost.tracker.peer import Peer
from roost.tracker.protocol import TrackerEvent, TrackerProtocol
from roost.tracker.replication import (
    ClusterEvent,
    Namesake,
    PeerDown,
    PeerGone,
    PeerUp,
    Renamed,
    ReplicationProtocol,
)

__all__ = ["Notify", "PeerHealth", "Replicator", "check_node_name"]

logger = logging.getLogger("roost.cluster")

ALONE_PERIOD: Final = 30.0  # seconds after the start until it is said that nobody was heard
MEETING: Final = 0.3  # seconds in which nodes that start together meet
MAX_BEHIND_PERIOD: Final = 120.0  # seconds behind a node that is up, until health says so
SLEPT: Final = 0.5  # seconds that a timer may be late before this process has slept
FAILING_PERIOD: Final = 60.0  # seconds after a failure in which the node counts as failing
LOG_PERIOD: Final = 10.0  # seconds between two failures of a kind that are logged
RETRY_PERIOD: Final = 1.0  # seconds until the timer rings again after it failed

Notify: TypeAlias = Callable[[Sequence[TrackerEvent]], None]


def check_node_name(name: str) -> str:
    """Return the name that a node is given, if it can be one.

    Raises:
        ConfigurationError: It is no name, or looks like one that a node takes itself.
    """
    name = configured_name(name, "node_name", MAX_NAME_SIZE)
    if RENAMED in name:
        raise ConfigurationError(
            f"the node's name {name!r} has a {RENAMED!r}, which only a name that a node takes "
            "itself has"
        )
    return name


def _why_behind(peer: Peer) -> str:
    if peer.request is None:
        return "nobody is known who has them and is heard"
    if not peer.attempts:
        return f"node {peer.request_to!r} is sending them"
    return (
        f"node {peer.request_to!r} was asked, after {peer.attempts - 1} requests without an answer"
    )


class PeerHealth(TypedDict):
    """What is known of another node.

    Attributes:
        name: Its name.
        is_up: It is believed to live; if not, what it tracks is hidden.
        is_behind: It has more than this node has got so far.
        behind_for: For how many seconds that has been so; 0 if it is not.
        missing: How many of its changes have not come; 0 if it is not behind.
        presences: How many of its presences are held here, of all trackers.
    """

    name: str
    is_up: bool
    is_behind: bool
    behind_for: float
    missing: int
    presences: int


class Replicator:
    """Run the trackers of one node, and their conversation with other nodes.

    Args:
        adapter: The way to other nodes; it has started.
        send: Takes the bytes for a node, or for all others if its name is None.
        options: The periods.
        name_limits: How long the names of what other nodes track may be.
    """

    def __init__(
        self,
        adapter: Adapter,
        send: Callable[[str | None, bytes], None],
        options: ReplicationOptions,
        name_limits: NameLimits = DEFAULT_LIMITS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._given_name = check_node_name(adapter.node_name)
        # Unix microseconds: they order the incarnations of one name.
        origin = OriginId(self._given_name, time.time_ns() // 1_000, secrets.randbits(64))
        self._trackers: dict[str, tuple[TrackerProtocol, Notify]] = {}
        self._timer: asyncio.Handle | None = None
        self._rings_at = 0.0
        self._rests_until = 0.0  # a step failed
        self._is_flush_set = False
        self._awaited: asyncio.Event | None = None  # that all is held which others have
        self._adapter = adapter
        self._has_met = False  # another node, since the start
        self._alone_since: float | None = self._loop.time()  # None while another node is up
        self._forgotten: dict[str, None] = {}  # nodes that were silent for too long, while alone
        self._alone_timer: asyncio.TimerHandle | None = None
        self._failures: Counter[str] = Counter()
        self._refused_count = adapter.counters["too_large"]
        self._failed_at: float | None = None
        self._logged_at: dict[str, float] = {}  # by kind of failure
        self._protocol: ReplicationProtocol | None = None
        if not adapter.reaches_others:
            self._own = Slice(origin, log_count=0)  # nobody will ask what changed
            return
        self._own = Slice(origin)
        self._alone_timer = self._loop.call_later(ALONE_PERIOD, self._say_alone)
        self._protocol = ReplicationProtocol(
            self._own,
            rng=random.Random(),
            new_nonce=lambda: secrets.randbits(64),
            now=self._loop.time(),
            options=options,
            room=lambda: Room(adapter.free_size, adapter.max_size),
            link=configured_name(adapter.link, "link", MAX_NAME_SIZE),
            name_limits=name_limits,
        )
        self._settle(self._protocol)

    # Trackers.

    def add(self, name: str, encoder: JsonEncoder, notify: Notify) -> TrackerProtocol:
        """Make a tracker, which shows what other nodes have from ``begin`` on.

        Args:
            name: The same on all nodes; no other tracker of this node has it.
            encoder: Encodes metas.
            notify: Called with the events of each change, at once.

        Raises:
            ConfigurationError: A tracker of that name runs here.
        """
        if name in self._trackers:
            raise ConfigurationError(
                f"two presences or trackers of one PubSub are called {name!r}: other nodes could "
                "not tell them apart; give one of them another name, as in Online(name=…)"
            )
        tracker = TrackerProtocol(self._own, name=name, encoder=encoder)
        self._trackers[name] = tracker, notify
        return tracker

    def begin(self, tracker: TrackerProtocol) -> None:
        """Let a tracker show what other nodes have, and notify it of that."""
        if self._protocol is not None:
            self._protocol.add_tracker(tracker)
            self._notify()

    def remove(self, tracker: TrackerProtocol) -> None:
        """End a tracker; what it tracked here is gone for other nodes as well."""
        del self._trackers[tracker.name]
        tracker.end()
        if self._protocol is not None:
            self._protocol.remove_tracker(tracker)
            self.changed()

    def changed(self) -> None:
        """Something is tracked here that was not, or no longer: other nodes are sent it soon."""
        if self._protocol is not None and not self._is_flush_set:
            self._is_flush_set = True
            self._set_timer(self._protocol)

    def _notify(self) -> None:
        changes = [(each.name, notify, each.events()) for each, notify in self._trackers.values()]
        for name, notify, events in changes:
            if events:
                try:
                    notify(events)
                except (Exception, asyncio.CancelledError) as error:
                    self._failed("untold", f"notifying {name!r} of changes failed", error)

    # Other nodes.

    def receive(self, data: bytes) -> None:
        """A message of another node's trackers."""
        if self._protocol is not None:
            protocol = self._protocol
            self._do(protocol, "receive", lambda now: protocol.receive_data(data, now))

    def link_up(self, node_name: str, link: str) -> None:
        logger.info("%s can be reached (link %s)", node_name, link)
        if self._protocol is not None:
            protocol = self._protocol
            self._do(protocol, "link_up", lambda now: protocol.link_up(node_name, now))

    def link_down(self, link: str) -> None:
        logger.info("link %s is gone", link)
        if self._protocol is not None:
            protocol = self._protocol
            self._do(protocol, "link_down", lambda now: protocol.link_down(link, now))

    def detached(self) -> None:
        logger.warning("this node is cut off from the others: what they have is shown as it was")
        if self._protocol is not None:
            self._do(self._protocol, "detached", self._protocol.detached)

    def attached(self) -> None:
        logger.info("this node can reach others again")
        if self._protocol is not None:
            self._do(self._protocol, "attached", self._protocol.attached)

    def close(self) -> None:
        """Say goodbye: what this node tracks is gone for the others at once."""
        if self._protocol is not None:
            self._do(self._protocol, "close", self._protocol.close)
        for timer in (self._timer, self._alone_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._alone_timer = None

    async def until_current(self, timeout: float) -> bool:
        """Wait until what other nodes track is known here, up to ``timeout`` seconds.

        Returns:
            Whether it is; False also if no other node was heard.
        """
        if self._protocol is None:
            return False
        known: set[OriginId] = set()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    if not self._is_current(self._protocol):
                        self._awaited = asyncio.Event()
                        await self._awaited.wait()
                    # Nodes are met one by one: it is over when nobody new turns up for a while.
                    met = {peer.origin for peer in self._protocol.peers}
                    if met == known:
                        return True
                    known = met
                    await asyncio.sleep(MEETING)
        except TimeoutError:
            return False
        finally:
            self._awaited = None

    @staticmethod
    def _is_current(protocol: ReplicationProtocol) -> bool:
        peers = [peer for peer in protocol.peers if peer.is_up]
        return bool(peers) and not any(peer.is_behind for peer in peers)

    # Reads.

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why: reason → how often.

        Of other nodes' messages: ``unsound``, ``unsound_row`` and ``unknown_kind``. Of this node's
        own ones: ``unsendable``. What failed here and should not have: ``untold``, a tracker that
        raised when it was notified of changes, and ``failed``, a step of the replication.
        """
        if self._protocol is None:
            return +self._failures
        return self._protocol.counters + self._failures

    @property
    def is_failing(self) -> bool:
        """Whether something failed in the last minute, and other nodes may lack what it was."""
        failed_at = self._failed_at
        return failed_at is not None and self._loop.time() - failed_at < FAILING_PERIOD

    @property
    def node_name(self) -> str:
        """The name of this node; another one than it was given if two nodes have that."""
        return self._own.origin.name

    @property
    def has_namesake(self) -> bool:
        """Whether another node that is up has the name that this one was given."""
        return self._protocol is not None and self._protocol.has_namesake

    @property
    def node_names(self) -> list[str]:
        """The nodes that are up, as far as this one knows, itself included; sorted."""
        peers = [] if self._protocol is None else self._protocol.peers
        return sorted([self.node_name, *(peer.name for peer in peers if peer.is_up)])

    @property
    def peers(self) -> list[PeerHealth]:
        """What is known of other nodes."""
        protocol = self._protocol
        if protocol is None:
            return []
        return [
            {
                "name": peer.name,
                "is_up": peer.is_up,
                "is_behind": peer.is_behind,
                "behind_for": round(protocol.behind_for(peer), 1),
                "missing": max(peer.announced - peer.held.seq, 0),
                "presences": len(peer.held),
            }
            for peer in protocol.peers
        ]

    @property
    def lagging(self) -> list[str]:
        """What keeps this node behind others that are up, for longer than it may; a sentence each.

        A slice of a million presences takes about a minute, most take milliseconds.
        """
        protocol = self._protocol
        if protocol is None:
            return []
        return [
            f"behind node {peer.name!r} for {protocol.behind_for(peer):.0f} s: "
            f"{peer.announced - peer.held.seq} of its changes are missing, {len(peer.held)} of its "
            f"presences are here; {_why_behind(peer)}"
            for peer in protocol.peers
            if peer.is_up and protocol.behind_for(peer) > MAX_BEHIND_PERIOD
        ]

    @property
    def alone_for(self) -> float | None:
        """Seconds since no other node is up; None while one is, or if there can be none."""
        if self._protocol is None or self._alone_since is None:
            return None
        return self._loop.time() - self._alone_since

    @property
    def lost(self) -> list[str]:
        """Nodes that fell silent without a goodbye, if no other one is up; sorted."""
        if self._protocol is None or self._alone_since is None:
            return []
        return sorted({*self._forgotten, *(peer.name for peer in self._protocol.peers)})

    @property
    def incompatible(self) -> list[str]:
        """Nodes that are up, and whose versions share no format of messages with this one."""
        if self._protocol is None:
            return []
        return [peer.name for peer in self._protocol.incompatible]

    # The machinery.

    def _do(self, protocol: ReplicationProtocol, what: str, step: Callable[[float], None]) -> None:
        """Give the protocol an input, and do what follows."""
        try:
            step(self._loop.time())
        except Exception as error:
            self._failed("failed", f"a step of the replication failed: {what}", error)
            # What is due may be still due: not at once again, or nothing else would be done here.
            self._rests_until = self._loop.time() + RETRY_PERIOD
        self._settle(protocol)

    def _settle(self, protocol: ReplicationProtocol) -> None:
        """Do what follows from any input: send, notify, log, and set the timer."""
        try:
            for envelope in protocol.messages_to_send():
                self._send_out(envelope)
            self._notify()
            for event in protocol.events():
                self._log(event)
                self._weigh(protocol, event)
        finally:
            self._set_timer(protocol)
        if self._awaited is not None and self._is_current(protocol):
            self._awaited.set()

    def _send_out(self, envelope: Envelope) -> None:
        try:
            self._send(envelope.to, encode_message(envelope.message))
        except Exception as error:
            sound = encodable(envelope.message)
            if sound is not None:
                self._send_out(Envelope(envelope.to, sound))
            what = type(envelope.message).__name__
            to = "all nodes" if envelope.to is None else f"node {envelope.to!r}"
            self._failed(
                "unsendable", f"can't send {what} to {to}: it is lost, and they may lack it", error
            )

    def _look_after_adapter(self) -> None:
        """Count messages too large for the engine as a failure; the adapter has logged them."""
        refused_count = self._adapter.counters["too_large"]
        if refused_count > self._refused_count:
            self._refused_count, self._failed_at = refused_count, self._loop.time()

    def _log(self, event: ClusterEvent) -> None:
        match event:
            case PeerUp(origin):
                logger.info("node %s is up", origin.name)
            case PeerDown(origin):
                logger.warning("node %s is down: what it tracks is hidden", origin.name)
            case PeerGone(origin):
                logger.info("node %s is gone", origin.name)
            case Renamed(old, new):
                logger.error(
                    "two nodes are called %r: this one goes on as %r; give each a name of its own",
                    old,
                    new,
                )
            case Namesake(origin):
                logger.error(
                    "two nodes are called %r: the other one goes on as %r; give each a name of "
                    "its own",
                    self._given_name,
                    origin.name,
                )

    def _weigh(self, protocol: ReplicationProtocol, event: ClusterEvent) -> None:
        """Keep since when this node is alone, and which nodes fell silent."""
        if any(peer.is_up for peer in protocol.peers):
            self._has_met, self._alone_since = True, None
            self._forgotten.clear()
            return
        if self._alone_since is None:
            self._alone_since = self._loop.time()
            if isinstance(event, PeerDown) and self._adapter.is_attached:
                logger.warning("no other node is up any more: is it this one that is cut off?")
        if isinstance(event, PeerGone) and event.was_silent:
            self._forgotten[event.origin.name] = None

    def _say_alone(self) -> None:
        """Nobody was heard since the start: legal, but not what an engine is there for."""
        if not self._has_met and not self._adapter.is_isolated:  # then the adapter says why
            logger.warning(
                "no other node was heard in the %g s since the start: if there are any, do they "
                "have the same URL and namespace?",
                ALONE_PERIOD,
            )

    def _failed(self, kind: str, what: str, error: BaseException) -> None:
        """Count a failure, and log it now and then only, as it may come again at once."""
        now = self._loop.time()
        self._failed_at = now
        self._failures[kind] += 1
        logged_at = self._logged_at.get(kind)
        if logged_at is None or now - logged_at >= LOG_PERIOD:
            self._logged_at[kind] = now
            logger.error("%s (%d so far)", what, self._failures[kind], exc_info=error)

    def _set_timer(self, protocol: ReplicationProtocol) -> None:
        try:
            at = protocol.next_timer()
        except Exception as error:
            self._failed("failed", "a step of the replication failed: next_timer", error)
            at = self._loop.time() + RETRY_PERIOD
        if at is not None:
            at = max(at, self._rests_until)
        if self._timer is not None:
            if at is not None and self._rings_at <= at:
                return  # when it rings, it is set anew
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._ring(at, protocol)

    def _ring(self, at: float, protocol: ReplicationProtocol) -> None:
        self._rings_at = at
        self._timer = self._loop.call_at(at, self._on_timer, protocol)

    def _on_timer(self, protocol: ReplicationProtocol) -> None:
        self._timer = None
        now = self._loop.time()
        if now - self._rings_at > SLEPT:
            # What others sent meanwhile comes first, so that nobody is judged for our own sleep.
            self._ring(now + SLEPT / 10, protocol)
            return
        self._is_flush_set = False
        self._look_after_adapter()
        self._do(protocol, "handle_timer", protocol.handle_timer)
