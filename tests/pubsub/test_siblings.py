"""Workers of one server on one machine find each other, and nobody else."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roost.exceptions import AdapterError, ConfigurationError
from roost.pubsub.auto import AutoAdapter
from roost.pubsub.local import LocalAdapter
from roost.pubsub.siblings import SiblingGroup, managers, runtime_directory, sibling_group
from roost.pubsub.siblings.managers import WorkerManager, started_at, worker_manager
from roost.pubsub.zenoh import ZenohAdapter
from tests.engines import free_port
from tests.pubsub.zenoh_node import REPOSITORY, NodeProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets")


@pytest.fixture(autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime directory for this test only, with a short path."""
    base = tmp_path_factory.getbasetemp().parent / f"r{time.monotonic_ns() % 10**6}"
    base.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    return base / "roost"


# Recognising a manager.


def fake_worker(monkeypatch: pytest.MonkeyPatch, module: str, **kwargs: Any) -> None:
    """Let this process look like a child of ``multiprocessing`` that runs a server's function."""

    def target() -> None: ...

    target.__module__ = module
    process = SimpleNamespace(_target=target, _kwargs=kwargs)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace())
    monkeypatch.setattr(multiprocessing, "current_process", lambda: process)


def test_a_program_of_a_shell_has_no_manager():
    """The parent of an ordinary program is a stranger's parent, too."""
    assert worker_manager() is None
    assert sibling_group() is None


@pytest.mark.parametrize("module", ["uvicorn._subprocess", "hypercorn.asyncio.run"])
def test_a_server_of_multiprocessing_is_recognised(monkeypatch: pytest.MonkeyPatch, module: str):
    """Its workers run a function of the server, which knows how many there are."""
    fake_worker(monkeypatch, module, config=SimpleNamespace(workers=4))

    assert worker_manager() == WorkerManager(
        module.partition(".")[0], os.getppid(), started_at(os.getppid()) or "", 4
    )


@pytest.mark.parametrize(
    ("command", "environ", "count"),
    [
        (["/venv/bin/python", "/venv/bin/granian", "--interface", "asgi", "app:app"], {}, 1),
        (["/venv/bin/python", "-m", "granian", "--workers", "3", "app:app"], {}, 3),
        (["granian", "--workers=2", "app:app"], {"GRANIAN_WORKERS": "4"}, 2),
        (["granian", "app:app"], {"GRANIAN_WORKERS": "4"}, 4),
        (["/venv/bin/granian --workers 3 app:app"], {}, 3),  # as ps tells it
        (["granian", "app:app", "--workers"], {}, None),
        (["python", "server.py"], {}, None),
        ([""], {}, None),
    ],
)
def test_the_number_of_workers_of_granian(
    monkeypatch: pytest.MonkeyPatch, command: list[str], environ: dict[str, str], count: int | None
):
    """Its workers are not told; the command line of their parent is looked at, 1 by default."""
    fake_worker(monkeypatch, "granian.server.mp")
    monkeypatch.setattr(managers, "command_line", lambda pid: "\0".join(command))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert worker_manager() == WorkerManager(
        "granian", os.getppid(), started_at(os.getppid()) or "", count
    )


def test_another_child_of_multiprocessing_is_no_worker(monkeypatch: pytest.MonkeyPatch):
    """Whoever starts processes of different applications by itself does not join them."""
    fake_worker(monkeypatch, "my_supervisor", config=SimpleNamespace(workers=4))

    assert worker_manager() is None


@pytest.mark.parametrize("option", ["should_reload", "use_reloader"])
def test_the_process_of_a_reloader_is_no_worker(monkeypatch: pytest.MonkeyPatch, option: str):
    """It is the only one; nothing is expected, and no engine is needed."""
    fake_worker(monkeypatch, "uvicorn._subprocess", config=SimpleNamespace(**{option: True}))

    assert worker_manager() is None


@pytest.fixture
def command_lines(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """A process of gunicorn: the command lines of ourselves and of our parent."""
    line = "python\0/usr/bin/gunicorn\0-w\x003\0app:app"
    lines = {os.getpid(): line, os.getppid(): line}
    monkeypatch.setenv("SERVER_SOFTWARE", "gunicorn/27.0")
    monkeypatch.setattr(managers, "command_line", lambda pid: lines[pid])
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", SimpleNamespace())
    monkeypatch.setattr(sys, "argv", ["gunicorn", "-w", "3", "app:app"])
    return lines


def test_a_fork_of_gunicorn_is_recognised(command_lines: dict[int, str]):
    """A worker has the command line of its parent, the arbiter."""
    found = worker_manager()

    assert found is not None
    assert (found.server, found.pid, found.worker_count) == ("gunicorn", os.getppid(), 3)

    command_lines[os.getpid()] = "gunicorn: worker [app]"
    command_lines[os.getppid()] = "gunicorn: master [app]"
    assert worker_manager() is not None


@pytest.mark.parametrize("parent", ["bash", "sh\0-c\0gunicorn app:app", ""])
def test_the_arbiter_of_gunicorn_is_no_worker(command_lines: dict[int, str], parent: str):
    """It has a shell or an init for a parent, though the application may be loaded in it."""
    command_lines[os.getppid()] = parent

    assert worker_manager() is None


@pytest.mark.usefixtures("command_lines")
def test_a_program_that_a_worker_starts_is_no_worker(monkeypatch: pytest.MonkeyPatch):
    """It inherits the environment of gunicorn, but gunicorn is not loaded in it."""
    monkeypatch.delitem(sys.modules, "gunicorn.arbiter")

    assert worker_manager() is None


@pytest.mark.parametrize(
    ("arguments", "environ", "count"),
    [
        (["-w", "4"], {}, 4),
        (["-w4"], {"WEB_CONCURRENCY": "2"}, 4),
        (["--workers=4"], {}, 4),
        (["--workers", "4"], {}, 4),
        ([], {"GUNICORN_CMD_ARGS": "-k x --workers 3"}, 3),
        ([], {"WEB_CONCURRENCY": "2"}, 2),
        (["-c", "conf.py"], {}, None),
    ],
)
def test_the_number_of_workers_is_read_where_it_may_be_given(
    arguments: Sequence[str], environ: dict[str, str], count: int | None
):
    """gunicorn takes it from its arguments, or from two variables; a file remains unknown."""
    assert managers._gunicorn_worker_count(arguments, environ) == count


def test_a_group_is_named_by_its_manager_and_namespace(monkeypatch: pytest.MonkeyPatch):
    """Another manager, another start of one process id, or another namespace: another group."""
    known = [
        (WorkerManager("uvicorn", 10, "100", 2), "roost"),
        (WorkerManager("uvicorn", 11, "100", 2), "roost"),
        (WorkerManager("uvicorn", 10, "101", 2), "roost"),
        (WorkerManager("uvicorn", 10, "100", 2), "chat"),
    ]

    groups = set()
    for manager, namespace in known * 2:
        monkeypatch.setattr(
            "roost.pubsub.siblings.group.worker_manager", lambda manager=manager: manager
        )
        groups.add(sibling_group(namespace))

    assert len(groups) == 4


# The directory.


def test_the_runtime_directory_is_private(runtime: Path):
    """It is made with access for its owner only, and used again."""
    assert runtime_directory() == runtime_directory() == runtime
    assert runtime.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_enter_is_refused(runtime: Path):
    """Somebody else could have put a socket there."""
    runtime.mkdir()
    runtime.chmod(0o755)

    with pytest.raises(AdapterError, match=r"mode 0o755.*chmod 700"):
        runtime_directory()


def test_a_link_to_a_directory_is_refused(runtime: Path, tmp_path: Path):
    """It could be led elsewhere."""
    runtime.symlink_to(tmp_path)

    with pytest.raises(AdapterError, match="no link"):
        runtime_directory()


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root")
def test_a_directory_of_another_user_is_refused(runtime: Path):
    """It is theirs to read and change."""
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 12345, -1)

    with pytest.raises(AdapterError, match="another user"):
        runtime_directory()


def test_a_path_that_is_too_long_for_sockets_is_not_used(monkeypatch: pytest.MonkeyPatch):
    """Then the directory is in /tmp."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp/" + "x" * 60)

    assert runtime_directory() == Path(f"/tmp/roost-{os.getuid()}")


def test_siblings_see_each_other_until_they_withdraw(runtime: Path):
    """Each sees the others of its group by link and socket; the last one leaves nothing."""
    group, other = SiblingGroup("g"), SiblingGroup("h")
    a, b, c = group.announce("aa"), group.announce("bb"), other.announce("cc")

    assert a.others() == {"bb": b.socket_path}
    assert b.others() == {"aa": a.socket_path}
    assert c.others() == {}

    for announcement in (a, b, c):
        announcement.withdraw()
        announcement.withdraw()
    assert list(runtime.iterdir()) == []


def test_the_dead_are_tidied_up(runtime: Path):
    """What a killed process left is removed by who looks; old groups of the dead go, too."""
    code = (
        "from roost.pubsub.siblings import SiblingGroup; import os, sys\n"
        "for key in 'gh': SiblingGroup(key).announce('dead').socket_path.touch()\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    os.utime(runtime / "h", (0, 0))
    assert len(list((runtime / "g").iterdir())) == 2

    announcement = SiblingGroup("g").announce("aa")

    assert announcement.others() == {}
    assert [path.name for path in (runtime / "g").iterdir()] == [announcement.name]
    assert [path.name for path in runtime.iterdir()] == ["g"]
    announcement.withdraw()


def test_an_announcement_stays_young(runtime: Path):
    """Old files in /tmp are removed by the system: living ones are touched."""
    announcement = SiblingGroup("g").announce("aa")
    path = runtime / "g" / announcement.name
    os.utime(path, (0, 0))

    announcement.touch()

    assert time.time() - path.stat().st_mtime < 60
    announcement.withdraw()


# Nodes.


def test_nodes_of_one_group_meet():
    """They need no address; those of another group hear nothing of them."""
    with (
        NodeProcess("zenoh://", "a", "g") as a,
        NodeProcess("zenoh://", "b", "g") as b,
        NodeProcess("zenoh://", "c", "h") as c,
    ):
        a.wait_for("up b")
        b.wait_for("up a")
        a.tell("publish hello")
        b.wait_for("got hello")
        c.tell("close")
        c.wait_for("closed")

        assert not [line for line in c.said() if line.startswith(("up", "got"))]


def test_no_link_is_missing_among_many_that_start_at_once():
    """Of any two that start at the same time at least one sees the other."""
    names = list("abcd")
    nodes = [NodeProcess("zenoh://", name, "g") for name in names]
    try:
        for node, name in zip(nodes, names, strict=True):
            seen = {node.wait_for("up").split()[1] for _ in range(len(names) - 1)}
            assert seen == {*names} - {name}
    finally:
        for node in nodes:
            node.__exit__()


def test_a_killed_node_leaves_no_trace(runtime: Path):
    """Its successor is met, and its socket is removed."""
    with NodeProcess("zenoh://", "a", "g") as a:
        with NodeProcess("zenoh://", "b", "g") as b:
            a.wait_for("up b")
            b.signal(signal.SIGKILL)
            a.wait_for("down", timeout=1.0)
        with NodeProcess("zenoh://", "b", "g"):
            a.wait_for("up b")

            announced = [path for path in (runtime / "g").iterdir() if "." not in path.name]
            assert len(announced) == 2


# ``auto``.


async def test_auto_is_local_without_a_manager():
    """A single process needs no engine."""
    adapter = AutoAdapter("a")
    await adapter.start(lambda data: None, SimpleNamespace())

    assert isinstance(adapter.chosen, LocalAdapter)
    assert (adapter.node_name, adapter.chosen.node_name) == ("a", "a")
    assert not adapter.reaches_others
    await adapter.close()


async def test_auto_needs_the_engine_for_several_workers(monkeypatch: pytest.MonkeyPatch):
    """Workers that would not hear each other do not start; a single one does."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("roost.pubsub.auto.sibling_group", lambda: SiblingGroup("g", 4))
    with pytest.raises(ConfigurationError, match=r'several workers.*pip install "roost\[zenoh\]"'):
        await AutoAdapter().start(lambda data: None, SimpleNamespace())

    monkeypatch.setattr("roost.pubsub.auto.sibling_group", lambda: SiblingGroup("g", 1))
    adapter = AutoAdapter()
    await adapter.start(lambda data: None, SimpleNamespace())
    assert isinstance(adapter.chosen, LocalAdapter)


# Real servers.


class Served:
    """A server's processes and their notes."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self.directory = directory

    def notes(self) -> dict[int, dict[str, Any]]:
        found = {}
        for path in self.directory.iterdir():
            if path.name.isdecimal() and is_alive(int(path.name)):
                found[int(path.name)] = json.loads(path.read_text())
        return found

    def wait_for(
        self, condition: Callable[[dict[int, dict[str, Any]]], bool], timeout: float = 30.0
    ) -> dict[int, dict[str, Any]]:
        deadline = time.monotonic() + timeout
        while not condition(notes := self.notes()):
            assert time.monotonic() < deadline, notes
            assert self.process.poll() is None
            time.sleep(0.02)
        return notes


def is_alive(pid: int) -> bool:
    return started_at(pid) is not None


def all_see_each_other(count: int) -> Callable[[dict[int, dict[str, Any]]], bool]:
    def condition(notes: dict[int, dict[str, Any]]) -> bool:
        names = {note["node_name"] for note in notes.values()}
        return len(names) == count and all(
            {*note["sees"], note["node_name"]} == names for note in notes.values()
        )

    return condition


@contextmanager
def served(directory: Path, *command: str) -> Iterator[Served]:
    """Run a server with the app of this test, until the end of the block."""
    directory.mkdir()
    environ = {**os.environ, "SEEN": str(directory), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "tests.pubsub.workers_app:app"],
        cwd=REPOSITORY,
        env=environ,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Served(process, directory)
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def server_command(server: str, workers: int) -> list[str]:
    port = str(free_port())
    gunicorn = ["gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", f"127.0.0.1:{port}"]
    commands = {
        "uvicorn": ["uvicorn", "--port", port],
        "gunicorn": gunicorn,
        "gunicorn --preload": [*gunicorn, "--preload"],
        "hypercorn": ["hypercorn", "-b", f"127.0.0.1:{port}"],
    }
    return [*commands[server], "--workers", str(workers)]


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "gunicorn --preload", "hypercorn"])
def test_workers_of_a_server_find_each_other(tmp_path: Path, server: str):
    """With nothing configured all workers hear each other, and a new one in place of a dead."""
    with served(tmp_path / "app", *server_command(server, 3)) as app:
        notes = app.wait_for(all_see_each_other(3))
        names = {note["node_name"] for note in notes.values()}
        assert {note["chosen"] for note in notes.values()} == {"ZenohAdapter"}
        app.wait_for(
            lambda notes: all(
                {*note["heard"], note["node_name"]} == names for note in notes.values()
            )
        )

        victim = next(iter(notes))
        if server != "hypercorn":  # which does not replace a worker that was killed
            os.kill(victim, signal.SIGKILL)
            app.wait_for(lambda notes: victim not in notes and all_see_each_other(3)(notes))


def test_two_applications_of_one_shell_do_not_meet(tmp_path: Path):
    """Each manager is a group of its own, though both have one parent."""
    command = server_command("uvicorn", 2), server_command("gunicorn", 2)
    with served(tmp_path / "a", *command[0]) as a, served(tmp_path / "b", *command[1]) as b:
        a.wait_for(all_see_each_other(2))
        b.wait_for(all_see_each_other(2))

        assert all(len(note["sees"]) == 1 for note in [*a.notes().values(), *b.notes().values()])


def test_a_reloader_is_alone(tmp_path: Path):
    """``uvicorn --reload`` needs no engine."""
    command = ["uvicorn", "--port", str(free_port()), "--reload", "--reload-dir", str(tmp_path)]
    with served(tmp_path / "app", *command) as app:
        [note] = app.wait_for(lambda notes: len(notes) == 1).values()

        assert note["chosen"] == "LocalAdapter"


def test_siblings_share_a_port_to_listen_on(monkeypatch: pytest.MonkeyPatch):
    """One worker has the port of the URL, the others tell newcomers of themselves through it."""
    port = str(free_port())
    url = f"zenoh://127.0.0.1:{port}?listen=127.0.0.1:{port}"
    with (
        NodeProcess(url, "a", "g") as a,
        NodeProcess(url, "b", "g") as b,
        NodeProcess(f"zenoh://127.0.0.1:{port}?listen=127.0.0.1:{free_port()}", "far") as far,
    ):
        assert {far.wait_for("up").split()[1] for _ in range(2)} == {"a", "b"}
        a.wait_for("up far")
        b.wait_for("up far")


def test_siblings_may_be_given():
    """An adapter can be told its group, for what starts processes by itself."""
    assert ZenohAdapter(siblings=SiblingGroup("mine")).reaches_others
