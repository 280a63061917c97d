"""How the workers of one machine find each other, with nothing configured.

Each group of workers has a directory, named after its manager, in a private runtime directory. A
worker *announces* itself there by a file that it keeps locked, and listens on a Unix socket beside
it. It announces itself first and looks for others then, so of any two at least one sees the other.

The lock is what tells the living from the dead: the kernel releases it even after kill -9, and no
reuse of a process id can confuse it. Whoever finds a file without its lock removes it.

The runtime directory belongs to us and is closed to everybody else, which is checked, so nobody
else can connect to the sockets in it, or plant one. That is all the secrecy that is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roost.exceptions import AdapterError
from roost.pubsub.siblings.managers import worker_manager

if sys.platform != "win32":
    import fcntl

__all__ = ["Announcement", "SiblingGroup", "runtime_directory", "sibling_group"]

_MAX_SOCKET_PATH_SIZE = 100  # bytes: the kernel's bound is 104 on macOS and 108 on Linux
_SOCKET_NAME_SIZE = 64  # bytes: more than /roost/<key>/<pid>-<link>.sock needs
_STALE_PERIOD = 60.0  # seconds after which a directory where nobody lives is removed


@dataclass(frozen=True)
class SiblingGroup:
    """The workers of one manager that use one namespace.

    Attributes:
        key: Name of the group's directory: a digest of user, manager, its start, and namespace.
        worker_count: How many workers the manager was told to run; ``None`` if unknown.
    """

    key: str
    worker_count: int | None = None

    def announce(self, link: str) -> Announcement:
        """Make this worker known to its siblings.

        Args:
            link: Its name among them, for a file name.

        Raises:
            AdapterError: The runtime directory can't be used, or is not ours alone.
        """
        runtime = runtime_directory()
        _remove_stale_groups(runtime, self.key)
        return Announcement(runtime / self.key, link)


def sibling_group(namespace: str = "roost") -> SiblingGroup | None:
    """The group that this process belongs to as a worker; ``None`` if it is no worker.

    Always ``None`` on Windows, where workers are joined by an address instead, for example
    ``zenoh://127.0.0.1:7447``.
    """
    if sys.platform == "win32" or (manager := worker_manager()) is None:
        return None
    who = f"{os.getuid()}:{manager.pid}:{manager.started}:{namespace}"
    return SiblingGroup(hashlib.sha256(who.encode()).hexdigest()[:16], manager.worker_count)


def runtime_directory() -> Path:
    """The directory for what only processes of this user may touch; made if need be.

    ``$XDG_RUNTIME_DIR/roost`` where there is one, else ``/tmp/roost-<uid>``.

    Raises:
        AdapterError: It can't be made, or others could have put something there.
    """
    directory = Path(f"/tmp/roost-{os.getuid()}")
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if len(os.fsencode(base)) + _SOCKET_NAME_SIZE > _MAX_SOCKET_PATH_SIZE:
        base = ""  # a socket in it would have too long a path
    if base and os.access(base, os.W_OK | os.X_OK):
        directory = Path(base) / "roost"
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
    except OSError as error:
        raise _unusable(directory, f"{error.strerror}; set XDG_RUNTIME_DIR") from error
    if not stat.S_ISDIR(found.st_mode):
        raise _unusable(directory, "expected a directory, and no link to one: remove it")
    if found.st_uid != os.getuid():
        raise _unusable(directory, "it belongs to another user: remove it, or set XDG_RUNTIME_DIR")
    if stat.S_IMODE(found.st_mode) & 0o077:
        mode = oct(stat.S_IMODE(found.st_mode))
        raise _unusable(directory, f"others have access to it (mode {mode}): chmod 700 it")
    return directory


def _unusable(directory: Path, reason: str) -> AdapterError:
    return AdapterError(str(directory), f"no place for the sockets of sibling workers: {reason}")


class Announcement:
    """This worker's file and socket among its siblings; it holds until it is withdrawn.

    Args:
        directory: The group's; made if need be.
        link: This worker's name in it.

    Attributes:
        socket_path: Where this worker shall listen.
    """

    def __init__(self, directory: Path, link: str) -> None:
        self.directory = directory
        self.name = f"{os.getpid()}-{link}"
        self._path = directory / self.name
        self.socket_path = _socket_of(self._path)
        self._descriptor = self._create()

    def _create(self) -> int:
        for _ in range(100):
            # The directory, or the file before it was locked, may be removed by whoever tidies up.
            self.directory.mkdir(mode=0o700, exist_ok=True)
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            except FileNotFoundError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)
        raise _unusable(self.directory, "files in it vanish")

    def others(self) -> dict[str, Path]:
        """Link → socket of each sibling that lives; what the dead left behind is removed."""
        return {
            path.name.partition("-")[2]: _socket_of(path)
            for path in _living(self.directory)
            if path.name != self.name
        }

    def touch(self) -> None:
        """Keep those at bay who remove old files from ``/tmp``."""
        for path in (self._path, self.socket_path, self.directory, self.directory.parent):
            with contextlib.suppress(OSError):
                os.utime(path)

    def withdraw(self) -> None:
        """Leave nothing behind."""
        if self._descriptor >= 0:
            _remove(self._path)
            os.close(self._descriptor)
            self._descriptor = -1
            with contextlib.suppress(OSError):
                self.directory.rmdir()  # if we were the last


def _socket_of(path: Path) -> Path:
    return path.with_name(path.name + ".sock")


def _living(directory: Path) -> Iterator[Path]:
    """The announcements of those who live."""
    try:
        paths = [path for path in directory.iterdir() if "." not in path.name]
    except FileNotFoundError:
        return
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            continue
        try:
            # Shared, so that two who look at once don't take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield path
        else:
            _remove(path)
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove an announcement with its socket and the lock file that zenoh keeps beside that."""
    socket = _socket_of(path)
    for leftover in (path, socket, socket.with_name(socket.name + ".lock")):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _remove_stale_groups(runtime: Path, key: str) -> None:
    """Remove the directories of managers whose workers have all died."""
    for directory in runtime.iterdir():
        with contextlib.suppress(OSError):
            is_old = time.time() - directory.stat().st_mtime > _STALE_PERIOD
            if directory.name != key and is_old and not any(_living(directory)):
                directory.rmdir()
