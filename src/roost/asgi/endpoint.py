"""Endpoint: the ASGI application that clients connect to."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar, TypeVarTuple, overload

from roost.aliases import EMPTY, Payload
from roost.asgi.handshake.acceptor import Acceptor, deny
from roost.asgi.health import Health, reasons
from roost.asgi.lifecycle.lifespan import run_lifespan
from roost.asgi.lifecycle.run import Run
from roost.asgi.mount import Mount
from roost.asgi.origin import CheckOrigin
from roost.asgi.types import ASGIApp, Receive, Scope, Send
from roost.channels.fastlane import broadcast
from roost.channels.hub import Hub
from roost.channels.socket import Socket
from roost.exceptions import ConfigurationError, NotStarted
from roost.logs import Shown
from roost.naming import DEFAULT_LIMITS, NameLimits
from roost.presence.base import TrackerBase
from roost.presence.presence import Presence
from roost.presence.tracker import Tracker
from roost.pubsub.loop_lock import LoopLock
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscriber, Subscription
from roost.repeats import Repeats
from roost.strict_json import EncodeHook
from roost.wire.masking import DEFAULT_NAMES
from roost.wire.payload import prepare

__all__ = ["Endpoint"]

logger = logging.getLogger("roost.asgi")

CALL_TIMEOUT: Final = 5.0  # seconds, as GenServer.call has it

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Endpoint:
    """An ASGI application that serves sockets and their channels.

    Mount it in any ASGI application and run its lifespan there, or serve it alone::

        app = FastAPI(lifespan=endpoint.lifespan)          # FastAPI, Starlette
        app.mount("/socket", endpoint)

        async with endpoint.running(): ...                 # in a lifespan of your own

        application = Endpoint({"/socket": UserSocket}, app=get_asgi_application())   # Django

    If no lifespan runs, the first connection starts the endpoint, and the log says how to do
    better. It may be started and stopped repeatedly, on different event loops.

    Args:
        sockets: Path → socket class or ``Mount``; relative to where the endpoint is mounted.
            phoenix.js adds ``/websocket`` to the path that it is given.
        presences: The presences that its channels use.
        trackers: The trackers that its code uses.
        pubsub: The way to other nodes, as in ``PubSub("redis://localhost")``; endpoints may share
            one. By default this process and its siblings, if a server runs several workers.
        app: Gets every request that is for none of the sockets; without it they get 404.
        encode_hook: Turns objects of your own into JSON values; with an explicit ``pubsub``, give
            it there.
        name_limits: How long topics, keys, events and statuses may be; with an explicit ``pubsub``,
            give it there.
        hosts: Hosts whose web pages may connect, for example ``["example.com", "*.example.org"]``;
            by default the host that the request is for. What would never match is refused.
        check_origin: False turns the check off; ``"conn"`` compares scheme and port too; a
            function decides by itself.
        filter_parameters: Parameters whose names contain one of these are masked in logs.
        health_path: Answers probes with the status of ``health``: 200, or 503 while it is stopped.
            None for no such path; ``health`` tells more, for a route of your own.

    Raises:
        ConfigurationError: Options that can't work, with the reason.

    Example:
        >>> class UserSocket(Socket):
        ...     channels = {}
        >>> endpoint = Endpoint({"/socket": UserSocket})
    """

    def __init__(
        self,
        sockets: Mapping[str, type[Socket] | Mount],
        *,
        presences: Sequence[Presence] = (),
        trackers: Sequence[Tracker] = (),
        pubsub: PubSub | None = None,
        app: ASGIApp | None = None,
        encode_hook: EncodeHook | None = None,
        name_limits: NameLimits | None = None,
        hosts: Sequence[str] | None = None,
        check_origin: CheckOrigin = True,
        filter_parameters: Sequence[str] = DEFAULT_NAMES,
        health_path: str | None = None,
    ) -> None:
        if pubsub is not None and encode_hook is not None:
            raise ConfigurationError("give encode_hook to the PubSub that you give")
        if pubsub is not None and name_limits is not None:
            raise ConfigurationError("give name_limits to the PubSub that you give")
        if hosts is not None and check_origin is not True:
            raise ConfigurationError("give hosts or check_origin, not both")
        check = check_origin if hosts is None else hosts
        if pubsub is not None and not isinstance(pubsub, PubSub):
            raise ConfigurationError(f"pubsub={pubsub!r}: expected a PubSub, as in PubSub(url)")
        self.pubsub = pubsub or PubSub(
            encode_hook=encode_hook, name_limits=name_limits or DEFAULT_LIMITS
        )
        self._trackings: list[TrackerBase[Any]] = [*trackers, *presences]
        for tracking in self._trackings:
            if not isinstance(tracking, TrackerBase):
                raise ConfigurationError(
                    f"{tracking!r} is no presence and no tracker: expected instances, as in "
                    "presences=[Online()]"
                )
        self._app = app
        self._filter_parameters = filter_parameters
        self._health_path = health_path
        mounts = {
            path: mount if isinstance(mount, Mount) else Mount(mount)
            for path, mount in sockets.items()
        }
        self._acceptors = [
            Acceptor(path, mount, check)
            for path, mount in mounts.items()
            if mount.websocket is not False
        ]
        self._run: Run | None = None
        self._starting = LoopLock()
        self._lost = Repeats()  # clients that asked for a path where no socket is
        self._stopped_on: asyncio.AbstractEventLoop | None = None  # the loop of the last run

    # Life.

    async def start(self) -> None:
        """Start the PubSub, the trackers and the presences; each start needs a ``stop``.

        Raises:
            ConfigurationError: The endpoint, or something that it is to start, runs elsewhere.
        """
        async with self._starting.here():
            run = self._run
            if run is not None and run.loop is not asyncio.get_running_loop():
                if not run.loop.is_closed():
                    raise ConfigurationError("this endpoint is running on another event loop")
                run = None  # a loop that was closed without stop took its run along
            if run is None:
                run = self._run = await Run.start(
                    self.pubsub, self._trackings, filter_parameters=self._filter_parameters
                )
            run.users += 1

    async def stop(self) -> None:
        """Close all connections (1012), let the channels clean up, and stop what was started.

        Whoever is cancelled meanwhile is so once all of that is done.
        """
        run = self._current()
        run.users -= 1
        if run.users == 0:
            self._run, self._stopped_on = None, run.loop
            await run.end()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Endpoint]:
        """Run for the duration of an ``async with`` block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    @asynccontextmanager
    async def connect(self, *, timeout: float = 3.0) -> AsyncIterator[Endpoint]:
        """Take part in a cluster without serving: in a management command, a job, a shell.

        In the block the endpoint can broadcast, list and be present as on any node. It begins when
        what other nodes track is known here.

        Args:
            timeout: Seconds after which it begins in any case; if there is no other node, too.

        Raises:
            AdapterError: The engine between the nodes cannot be reached.

        Example:
            ``async with endpoint.connect(): endpoint.broadcast("news", "published", {"id": 7})``
        """
        async with self.running():
            if not self.pubsub.adapter.reaches_others:
                logger.warning(
                    "connected to nobody: this PubSub is for one process; give the endpoint one "
                    'that reaches the others, as in PubSub("redis://…")'
                )
            await self.pubsub.replicator.until_current(timeout)
            yield self

    def lifespan(self, app: object) -> AbstractAsyncContextManager[None]:
        """A lifespan for Starlette and FastAPI: ``FastAPI(lifespan=endpoint.lifespan)``."""
        return self._lifespan()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self.running():
            yield

    # Serving.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "lifespan":
            await run_lifespan(self.running(), self._app, scope, receive, send)
            return
        path = _relative_path(scope)
        if path == self._health_path and scope["type"] == "http":
            status = self.health()["status"]
            await _respond(send, 503 if status == "stopped" else 200, status)
            return
        for acceptor in self._acceptors:
            path_params = acceptor.pattern.match(path)
            if path_params is None:
                continue
            if scope["type"] != "websocket":
                await _not_an_upgrade(scope, send)
                return
            run = await self._running()
            if run is None:
                await receive()
                await deny(scope, send, 503)
                return
            await acceptor.accept(
                scope,
                receive,
                send,
                path_params=path_params,
                run=run,
            )
            return
        if self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            self._warn_of_path(scope)
            await receive()
            await deny(scope, send, 404)
        else:
            await _respond(send, 404, "Not Found")

    def _warn_of_path(self, scope: Scope) -> None:
        """Say which paths there are: clients only see that they can't connect."""
        root: str = scope.get("root_path", "").rstrip("/")
        paths = ", ".join(f"{root}{acceptor.pattern}" for acceptor in self._acceptors) or "none"
        hint = ""
        if any(each.pattern.match(scope["path"]) is not None for each in self._acceptors):
            hint = f"; they are relative to where it is mounted: {root}, so take that off its own"
        what = "no socket is at %s: the paths of this endpoint are %s%s (refused %d times)"
        path, shown = scope["path"], (Shown(paths), Shown(hint))
        self._lost.note(lambda count: logger.warning(what, path, *shown, count))

    async def _running(self) -> Run | None:
        """The run; the first connection starts one if no lifespan did. None after a stop."""
        run, loop = self._run, asyncio.get_running_loop()
        if run is None and self._stopped_on is loop:
            return None
        if run is None or run.loop is not loop:
            await self.start()
            if self._current().users > 1:  # somebody else did, meanwhile
                await self.stop()
                return self._current()
            logger.warning(
                "the endpoint was started by its first connection, and nothing will stop it: run "
                "its lifespan, with FastAPI(lifespan=endpoint.lifespan), or `async with "
                "endpoint.running():` in your own"
            )
        return self._current()

    # Publishing.

    def broadcast(self, topic: str, event: str, payload: Payload = EMPTY) -> None:
        """Send an event to all subscribers of a topic on all nodes; works from any thread.

        Args:
            topic: Where.
            event: What; ``disconnect`` to a socket's id closes its connections.
            payload: A JSON object, or bytes for a binary frame; by default ``{}``.

        Raises:
            InvalidName: The topic or the event can't be one; nobody got it.
            PayloadError: The payload is neither; nobody got it.
            NotStarted: The endpoint is not running.
        """
        self._broadcast(topic, event, payload)

    def broadcast_from(
        self, sender: Subscriber, topic: str, event: str, payload: Payload = EMPTY
    ) -> None:
        """``broadcast``, but the subscriptions of ``sender`` are skipped."""
        self._broadcast(topic, event, payload, sender=sender)

    def local_broadcast(self, topic: str, event: str, payload: Payload = EMPTY) -> None:
        """``broadcast`` to the subscribers on this node only."""
        self._broadcast(topic, event, payload, is_local=True)

    def local_broadcast_from(
        self, sender: Subscriber, topic: str, event: str, payload: Payload = EMPTY
    ) -> None:
        """``local_broadcast``, but the subscriptions of ``sender`` are skipped."""
        self._broadcast(topic, event, payload, sender=sender, is_local=True)

    def subscribe(self, topic: str, subscriber: Subscriber) -> Subscription:
        """Call ``subscriber`` with each ``Broadcast`` of a topic, on the loop's thread."""
        return self.pubsub.subscribe(topic, subscriber)

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        self.pubsub.unsubscribe(subscription)

    @overload
    def call(
        self,
        function: Callable[[*Arguments], Coroutine[Any, Any, T]],
        *args: *Arguments,
        timeout: float | None = CALL_TIMEOUT,
    ) -> T: ...
    @overload
    def call(
        self,
        function: Callable[[*Arguments], T],
        *args: *Arguments,
        timeout: float | None = CALL_TIMEOUT,
    ) -> T: ...
    def call(
        self,
        function: Callable[[*Arguments], Any],
        *args: *Arguments,
        timeout: float | None = CALL_TIMEOUT,
    ) -> Any:
        """Run a function on the event loop's thread, from another one, and return its result.

        It is the way for code that is not async: a Django view, a ``def`` route of FastAPI, a
        thread of your own. The thread waits; the loop does not. The function sees the context
        variables of whoever calls, and what it raises is raised here.

        Args:
            function: ``async def`` or ``def``, for example ``online.list``. Bind what it takes by
                keyword with ``functools.partial``.
            args: Its arguments.
            timeout: Seconds to wait, after which it is cancelled; None to wait as long as the
                endpoint runs.

        Raises:
            WrongThread: This is the loop's thread: call or await the function itself.
            NotStarted: The endpoint is not running, or stopped meanwhile.
            TimeoutError: It took longer.

        Example:
            ``names = list(endpoint.call(online.list, "room:1"))``
        """
        return self._current().calls.call(function, args, timeout)

    def health(self) -> Health:
        """How this node and its cluster are; JSON values, for probes and dashboards.

        It works from any thread; from another one than the loop's it takes a turn of the loop.

        A node that lost its engine is ``degraded``: it serves its own clients, and others will be
        repaired once it is back, so that it need not be restarted.

        Example:
            >>> Endpoint({}).health()["status"]
            'stopped'
        """
        run = self._run
        if run is None or run.loop.is_closed():
            return {"status": "stopped"}
        if not run.calls.is_loops_thread:
            try:
                return self.call(self.health)
            except NotStarted:
                return {"status": "stopped"}
        replicator, adapter = self.pubsub.replicator, self.pubsub.adapter
        why = reasons(replicator, adapter)
        return {
            "status": "degraded" if why else "ok",
            "reasons": why,
            "node": replicator.node_name,
            "is_attached": adapter.is_attached,
            "is_isolated": adapter.is_isolated,
            "has_namesake": replicator.has_namesake,
            "is_failing": replicator.is_failing,
            "alone_for": replicator.alone_for,
            "nodes": replicator.node_names,
            "peers": replicator.peers,
            "incompatible": replicator.incompatible,
            "connections": self.connection_count,
            "dropped": {
                "pubsub": dict(self.counters),
                "adapter": dict(adapter.counters),
                "trackers": dict(replicator.counters),
                "server": dict(run.server_counters or {}),
            },
        }

    @property
    def hub(self) -> Hub:
        """What its connections share; for transports, and for tests without any.

        Raises:
            NotStarted: The endpoint is not running.
        """
        return self._current().hub

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why: reason → how often."""
        return self.pubsub.counters

    @property
    def connection_count(self) -> int:
        """How many clients are connected to this process."""
        return 0 if self._run is None else self._run.connection_count

    def _broadcast(self, topic: str, event: str, payload: Payload, **options: Any) -> None:
        pubsub = self.pubsub
        limits = pubsub.name_limits
        topic, event = limits.topic(topic), limits.event(event)
        # Encoded here, so that a bad payload raises here, whatever thread this is.
        prepared = prepare(payload, pubsub.encoder)
        pubsub.call_soon(lambda: broadcast(pubsub, topic, event, prepared, **options))

    def _current(self) -> Run:
        if self._run is None:
            raise NotStarted(
                "this endpoint", "run its lifespan, or `async with endpoint.running():`"
            )
        return self._run


def _relative_path(scope: Scope) -> str:
    """The path below where the endpoint is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if path == root or path.startswith(f"{root}/"):
        return path[len(root) :]
    return path  # of a server or framework that takes the root off itself


async def _not_an_upgrade(scope: Scope, send: Send) -> None:
    if scope["method"] != "GET":
        await _respond(send, 400, "")
        return
    await _respond(
        send,
        400,
        "this is a WebSocket endpoint: the `connection` header must contain `upgrade`, and the "
        "`upgrade` header `websocket`",
    )


async def _respond(send: Send, status: int, text: str) -> None:
    data = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(data)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
