"""Sessions of zenoh: opened on a thread, closed within a bound, and never left to the end.

An open session would keep the interpreter from ending, so those that the program forgot are closed
at exit. zenoh's threads do not survive a fork, and what a forked child does with a session, or
with one of its own, hangs: there nothing of it is touched, and to open one is refused.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import json
import os
import sysconfig
import tempfile
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from roost.exceptions import AdapterError, ConfigurationError
from roost.pubsub.zenoh.linger import stop_lingering
from roost.pubsub.zenoh.settings import ZenohSettings, key_of
from roost.pubsub.zenoh.watch import Watch

if TYPE_CHECKING:
    import zenoh

__all__ = ["PortTaken", "ZenohSession", "check_zenoh", "introduce", "is_installed"]

_INTRODUCTION_PERIOD = 1.0  # seconds; peers on one machine took 2 ms to get acquainted
_CLOSE_TIMEOUT = 2.0  # seconds: zenoh itself waits 10 s for a peer that is stalled

# Session → what was declared in it.
_open_sessions: dict[zenoh.Session, list[Any]] = {}
# Session → notified when what others send is not read any more (True), and when it is again.
_listeners: dict[zenoh.Session, Callable[[bool], None]] = {}
_watch: Watch | None = None  # while there is something to be watched
_watched: set[object] = set()  # sessions, open or being opened, that may have connections of TCP
_watch_lock = threading.Lock()
_engine_pid: int | None = None  # the process that opened a session first; zenoh lives there only


def is_installed() -> bool:
    """Whether the engine can be imported; it is not imported for that."""
    return importlib.util.find_spec("zenoh") is not None


def check_zenoh(what: str) -> None:
    """Raise if there is no engine.

    Raises:
        ConfigurationError: It is not installed; the message says how.
    """
    if is_installed():
        return
    remedy = 'install it with: pip install "roost[zenoh]"'
    if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""):
        remedy = (
            "it has no wheel for musl (Alpine): use an image with glibc, such as python:3-slim, or "
            "another engine, redis:// or nats://"
        )
    raise ConfigurationError(f"{what} needs zenoh, which is not installed: {remedy}")


class PortTaken(AdapterError):
    """Another process listens where we wanted to."""


class ZenohSession:
    """One open session and what a node declares in it.

    Args:
        settings: What the URL says.
        node_name: Whose messages to receive.
        link: Under what to be known to others.
        listen, connect: Endpoints.
        on_message: Gets the key and the bytes of each message, on threads of zenoh.
        on_link: Gets node name, link, and whether it is up, on threads of zenoh.
        on_held_up: Gets True when zenoh has read nothing for a while though something has come,
            and False when it does again; on a thread of its own.

    Raises:
        AdapterError: The engine refuses to start.
    """

    def __init__(
        self,
        settings: ZenohSettings,
        *,
        node_name: str,
        link: str,
        listen: list[str],
        connect: list[str],
        on_message: Callable[[str, bytes], None],
        on_link: Callable[[str, str, bool], None],
        on_held_up: Callable[[bool], None],
    ) -> None:
        self._link = link
        self._root = settings.namespace
        self._session = _open(settings, listen=listen, connect=connect)
        _listeners[self._session] = on_held_up
        try:
            self._declare(node_name, on_message, on_link)
        except BaseException:
            self.close()
            raise

    def _declare(
        self,
        node_name: str,
        on_message: Callable[[str, bytes], None],
        on_link: Callable[[str, str, bool], None],
    ) -> None:
        import zenoh

        def receive(sample: zenoh.Sample) -> None:
            on_message(str(sample.key_expr), sample.payload.to_bytes())

        def notice(sample: zenoh.Sample) -> None:
            name, link = str(sample.key_expr).split("/")[-2:]
            if link != self._link:
                on_link(name, link, sample.kind == zenoh.SampleKind.PUT)

        # Called directly on the thread that receives from a peer: the order of what it sent stays,
        # also between the subscribers, and it saves two threads and a change of threads.
        remote = zenoh.Locality.REMOTE  # no echo of our own
        session, me = self._session, key_of(node_name)
        self._publisher = session.declare_publisher(
            f"{self._root}/all/{self._link}",
            congestion_control=zenoh.CongestionControl.DROP,
            allowed_destination=remote,
        )
        _open_sessions[session] += [
            self._publisher,
            *(
                session.declare_subscriber(
                    f"{self._root}/{way}/*",
                    zenoh.handlers.Callback(receive, indirect=False),
                    allowed_origin=remote,
                )
                for way in ("all", f"to/{me}")
            ),
            session.liveliness().declare_subscriber(
                f"{self._root}/link/*/*",
                zenoh.handlers.Callback(notice, indirect=False),
                history=True,
            ),
            # Last, so that who sees us is heard by us.
            session.liveliness().declare_token(f"{self._root}/link/{me}/{self._link}"),
        ]

    def send(self, node_name: str | None, data: bytes) -> None:
        """Send to one, or to all others; waits for a peer that does not read, see the settings."""
        import zenoh

        if node_name is None:
            self._publisher.put(data)
        else:
            self._session.put(
                f"{self._root}/to/{key_of(node_name)}/{self._link}",
                data,
                congestion_control=zenoh.CongestionControl.DROP,
                allowed_destination=zenoh.Locality.REMOTE,
            )

    def peers(self) -> list[str]:
        """The remote ends of all connections, for example ``tcp/10.0.0.5:7447``."""
        return [link.dst for link in self._session.info.links()]

    @property
    def is_open(self) -> bool:
        return self._session in _open_sessions

    def close(self) -> None:
        """Close, within a bound: what still hangs then is left to a thread of its own."""
        _close(self._session)


def introduce(settings: ZenohSettings, endpoints: list[str]) -> None:
    """Make the nodes at these endpoints acquainted, and all whom they know; takes a second."""
    session = _open(settings, listen=[], connect=endpoints)
    try:
        threading.Event().wait(_INTRODUCTION_PERIOD)
    finally:
        _close(session)


def _open(settings: ZenohSettings, *, listen: list[str], connect: list[str]) -> zenoh.Session:
    global _engine_pid
    if _engine_pid not in (None, os.getpid()):
        raise AdapterError(
            str(settings),
            "this process was forked from one that had used zenoh, which can't work here: start "
            "processes with the spawn method, or fork before the first start",
        )
    try:
        import zenoh
    except ImportError as error:
        raise AdapterError(str(settings), f"zenoh can't be imported: {error}") from error
    with contextlib.ExitStack() as stack:
        dictionary_file = None
        if settings.user:
            # zenoh reads the credentials that others must show from a file, once.
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", encoding="utf-8"))
            file.write(f"{settings.user}:{settings.password}\n")
            file.flush()
            dictionary_file = file.name
        values = settings.engine_config(
            listen=listen, connect=connect, dictionary_file=dictionary_file
        )
        config = zenoh.Config()
        has_tcp = any(not each.startswith("unixsock-stream/") for each in listen + connect)
        if has_tcp:  # connections come while it opens
            _begin_watch(config)
            stack.callback(_end_watch, config)
        try:
            for key, value in values.items():
                config.insert_json5(key, json.dumps(value))
            _engine_pid = os.getpid()
            session = zenoh.open(config)
        except zenoh.ZError as error:
            raise _explained(settings, str(error)) from None
        if has_tcp:
            _begin_watch(session)
    _open_sessions[session] = []
    return session


def _begin_watch(what: object) -> None:
    """Look after zenoh's connections as long as ``what`` needs it."""
    global _watch
    with _watch_lock:
        _watched.add(what)
        if _watch is None:
            _watch = Watch(_notify_listeners)
            _watch.start()


def _end_watch(what: object) -> None:
    global _watch
    with _watch_lock:
        _watched.discard(what)
        if _watch is not None and not _watched:
            _watch.stop()
            _watch = None


def _notify_listeners(is_held_up: bool) -> None:
    for listener in list(_listeners.values()):
        listener(is_held_up)


def _explained(settings: ZenohSettings, text: str) -> AdapterError:
    """What zenoh says, without the places in its source; it shows no credentials."""
    text = "zenoh can't start: " + " ".join(text.partition(" at /")[0].split()).rstrip(".")
    if "in use" in text.lower():
        return PortTaken(str(settings), f"{text}; choose another port with ?listen=host:port")
    return AdapterError(str(settings), text)


def _close(session: zenoh.Session) -> None:
    if _open_sessions.pop(session, None) is None:
        return
    _listeners.pop(session, None)
    _end_watch(session)

    def close() -> None:
        stop_lingering()  # it may have been opened since the last search
        with contextlib.suppress(Exception):  # a peer that is stalled: it will see us gone anyway
            session.close()  # type: ignore[no-untyped-call]

    thread = threading.Thread(target=close, name="roost-zenoh-close", daemon=True)
    thread.start()
    thread.join(_CLOSE_TIMEOUT)


def _close_all() -> None:
    if _engine_pid == os.getpid():
        for session in list(_open_sessions):
            _close(session)


def _leak_all() -> None:
    """See to it that nothing of a session is ever touched here, not even by its end."""
    global _watch, _watch_lock
    for session, declared in _open_sessions.items():
        for thing in (session, *declared):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    _open_sessions.clear()
    _listeners.clear()
    _watched.clear()
    _watch, _watch_lock = None, threading.Lock()  # its thread is not here


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leak_all)
