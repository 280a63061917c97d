"""Whether this process is a worker of a server that runs several, and of which one.

Workers of one manager serve one application, so they may find each other without being told. A
process whose parent is anything else, a shell above all, has strangers for siblings: it is never
taken for a worker. So each manager is recognised by what only its workers have:

* uvicorn, hypercorn and granian start workers through ``multiprocessing``, with a function of
  their own as what the process runs; it comes with the server's configuration. Only granian's
  comes without, so that the number of workers is read off the parent's command line.
* gunicorn forks: ``SERVER_SOFTWARE`` is set, its arbiter is loaded, and the parent runs the same
  command line as we do. The arbiter itself, where ``--preload`` imports the application, has a
  shell or an init for a parent, with another command line.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["WorkerManager", "worker_manager"]

_SERVERS = ("uvicorn", "hypercorn", "granian")


@dataclass(frozen=True)
class WorkerManager:
    """The process that started this worker.

    Attributes:
        server: ``"uvicorn"``, ``"hypercorn"``, ``"granian"`` or ``"gunicorn"``.
        pid: Its process id.
        started: When it started, in whatever form the system tells it.
        worker_count: How many workers it was told to run; ``None`` if that can't be seen. It may
            run more later, if it is asked to by a signal.
    """

    server: str
    pid: int
    started: str
    worker_count: int | None


def worker_manager() -> WorkerManager | None:
    """The manager of this worker; ``None`` if this process is no worker, or the only one ever.

    The one process of ``uvicorn --reload`` is no worker: it has no siblings.
    """
    was_spawned = multiprocessing.parent_process() is not None
    found = _by_target() if was_spawned else _by_fork()
    if found is None:
        return None
    server, count = found
    pid = os.getppid()
    started = started_at(pid)
    return None if started is None else WorkerManager(server, pid, started, count)


def _by_target() -> tuple[str, int | None] | None:
    """Which server's function ``multiprocessing`` runs here, and its number of workers."""
    process = multiprocessing.current_process()
    target = getattr(process, "_target", None)  # private, but it stays, and nothing else tells
    while isinstance(target, functools.partial):
        target = target.func
    server = str(getattr(target, "__module__", "")).partition(".")[0]
    if server not in _SERVERS:
        return None
    given: Mapping[str, Any] = getattr(process, "_kwargs", None) or {}
    config = given.get("config")
    if server == "granian":
        return server, _granian_worker_count(command_line(os.getppid()), os.environ)
    if getattr(config, "should_reload", False) or getattr(config, "use_reloader", False):
        return None
    count = getattr(config, "workers", None)
    return server, count if isinstance(count, int) else None


def _by_fork() -> tuple[str, int | None] | None:
    """Whether gunicorn's arbiter forked us."""
    if not os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):
        return None
    if "gunicorn.arbiter" not in sys.modules:
        return None  # started by a worker, with its environment
    ours, parents = command_line(os.getpid()), command_line(os.getppid())
    if not parents:
        return None
    renamed = parents.startswith("gunicorn: master") and ours.startswith("gunicorn: ")
    if ours != parents and not renamed:
        return None
    return "gunicorn", _gunicorn_worker_count(sys.argv[1:], os.environ)


def _granian_worker_count(parents: str, environ: Mapping[str, str]) -> int | None:
    """What the manager's command line or the environment says; None if a program embeds it."""
    words = parents.split("\0" if "\0" in parents else None)  # ``ps`` puts spaces between them
    places = [place for place, word in enumerate(words) if _is_granian(word)]
    if not places:
        return None
    options = words[places[0] + 1 :]
    value = environ.get("GRANIAN_WORKERS", "1")
    for word, following in itertools.pairwise([*options, ""]):
        if word == "--workers":
            value = following
        elif word.startswith("--workers="):
            value = word.removeprefix("--workers=")
    return int(value) if value.isdecimal() else None


def _is_granian(word: str) -> bool:
    """``granian``, or the path of it, or of what ``python -m granian`` runs."""
    path = Path(word)
    return path.name == "granian" or path.parts[-2:] == ("granian", "__main__.py")


def _gunicorn_worker_count(arguments: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """What the command line or the environment says; a configuration file may say otherwise."""
    for words in (list(arguments), shlex.split(environ.get("GUNICORN_CMD_ARGS", ""))):
        for word, following in itertools.pairwise([*words, ""]):
            if word in {"-w", "--workers"}:
                value = following
            elif word.startswith("--workers="):
                value = word.removeprefix("--workers=")
            elif word.startswith("-w"):
                value = word.removeprefix("-w")
            else:
                continue
            if value.isdecimal():
                return int(value)
    value = environ.get("WEB_CONCURRENCY", "")
    return int(value) if value.isdecimal() else None


def started_at(pid: int) -> str | None:
    """When a process started: with its id it names the process for good. ``None`` if it is gone."""
    try:
        # The name, in parentheses, may contain spaces and parentheses; starttime is the 20th
        # field after it, in clock ticks since boot (proc(5)).
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return None if sys.platform == "linux" else _ps(pid, "lstart")
    except (OSError, IndexError):
        return None


def command_line(pid: int) -> str:
    """The command line of a process, empty if it can't be seen."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").strip("\0")
    except FileNotFoundError:
        return "" if sys.platform == "linux" else _ps(pid, "args") or ""
    except OSError:
        return ""


def _ps(pid: int, column: str) -> str | None:
    """One column of ``ps``, where there is no ``/proc``."""
    try:
        done = subprocess.run(
            ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
