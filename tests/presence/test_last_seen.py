"""Last seen times: the SQLite store on real files, the recorder on a virtual clock."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from roost.exceptions import ConfigurationError, NotStarted
from roost.presence.following.recorder import LastSeenRecorder
from roost.presence.last_seen import LastSeenStore, SqliteLastSeen
from tests.virtual_clock import run_virtually, virtually


def store_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("roost-last-seen")]


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Where a test keeps its times; all that it opened has to be closed in the end."""
    yield tmp_path / "seen.db"
    assert store_threads() == []


def rows(path: Path) -> dict[str, float]:
    """What is in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT key, seen_at FROM roost_last_seen"))


def files(path: Path) -> list[str]:
    """The file and what SQLite puts beside it."""
    return sorted(each.name for each in path.parent.iterdir())


# SqliteLastSeen: times.


async def test_the_later_time_stays(path: Path):
    """Whatever the order in which times come, the later one of a key stays."""
    store = SqliteLastSeen(path)
    await store.open()

    await store.record({"alice": 2.5, "bob": 1.0})
    await store.record({"alice": 1.0, "bob": 2.0})

    assert await store.read(["alice", "bob"]) == {"alice": 2.5, "bob": 2.0}
    await store.close()


async def test_unknown_keys_are_missing(path: Path):
    """Who was never seen is not in the answer, and neither is who was not asked for."""
    store = SqliteLastSeen(path)
    await store.open()
    await store.record({"alice": 1.0, "bob": 1.0})

    assert await store.read(["alice", "carol", "alice"]) == {"alice": 1.0}
    assert await store.read([]) == {}
    await store.close()


async def test_any_number_of_keys(path: Path):
    """There are no more keys than one query takes, neither written nor read."""
    store = SqliteLastSeen(path)
    await store.open()
    seen_at = {f"user-{number}": float(number) for number in range(40_000)}

    await store.record(seen_at)

    assert await store.read(seen_at.keys()) == seen_at
    await store.close()


@pytest.mark.parametrize("key", ["7", "07", "", "' OR 1 --", "a\0b", "Zoë 🙂", "ALICE", "alice "])
async def test_keys_are_kept_as_they_are(path: Path, key: str):
    """A key is text, every character of which counts."""
    store = SqliteLastSeen(path)
    await store.open()
    await store.record({"alice": 1.0, "a": 1.0, key: 2.0})

    assert await store.read([key, "alice", "a"]) == {key: 2.0, "alice": 1.0, "a": 1.0}
    await store.close()


async def test_a_record_is_whole_or_nothing(path: Path):
    """If one time can't be stored, none is, and the error is SQLite's."""
    store = SqliteLastSeen(path)
    await store.open()

    with pytest.raises(sqlite3.IntegrityError):
        await store.record({"alice": 1.0, "bob": float("nan")})

    assert await store.read(["alice", "bob"]) == {}
    await store.record({"alice": 1.0})
    assert await store.read(["alice"]) == {"alice": 1.0}
    await store.close()


async def test_the_table_lives_among_others(path: Path):
    """The file may be the application's own database; nothing else in it is touched."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE last_seen (user TEXT)")
        connection.execute("INSERT INTO last_seen VALUES ('alice')")
        connection.commit()
    store = SqliteLastSeen(path)
    await store.open()
    await store.record({"bob": 1.0})
    await store.close()

    assert rows(path) == {"bob": 1.0}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT user FROM last_seen").fetchall() == [("alice",)]


# SqliteLastSeen: several of them.


async def test_two_stores_share_a_file(path: Path):
    """What one store records, another one of the same file reads."""
    here, there = SqliteLastSeen(path), SqliteLastSeen(str(path))
    await here.open()
    await there.open()

    await asyncio.gather(
        *(store.record({"alice": at}) for at, store in enumerate([here, there] * 20))
    )

    assert await here.read(["alice"]) == await there.read(["alice"]) == {"alice": 39.0}
    await here.close()
    await there.close()


PROCESS_COUNT = 3
ROUND_COUNT = 20


def record_in_turns(path: Path, number: int, barrier: Barrier) -> None:
    """One of several processes: all open the file together, and again and again."""

    async def main() -> None:
        for round_number in range(ROUND_COUNT):
            store = SqliteLastSeen(path)
            await store.open()
            await store.record({"alice": float(number + round_number), f"bob-{number}": 1.0})
            await store.close()

    barrier.wait(60)
    asyncio.run(main())


def test_processes_share_a_file(path: Path):
    """Processes that make, open, write and close one file together all succeed."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESS_COUNT)
    processes = [
        context.Process(target=record_in_turns, args=(path, number, barrier))
        for number in range(PROCESS_COUNT)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0] * PROCESS_COUNT
    assert rows(path) == {
        "alice": float(PROCESS_COUNT - 1 + ROUND_COUNT - 1),
        **{f"bob-{number}": 1.0 for number in range(PROCESS_COUNT)},
    }


async def test_a_busy_file_is_waited_for(path: Path):
    """Opening and recording wait for a process that writes; the event loop runs on meanwhile."""
    store = SqliteLastSeen(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        opening = asyncio.create_task(store.open())
        await asyncio.wait([opening], timeout=0.1)  # enough to meet the lock
        assert not opening.done()
        other.execute("COMMIT")
        await opening

        other.execute("BEGIN IMMEDIATE")
        recording = asyncio.create_task(store.record({"alice": 1.0}))
        await asyncio.wait([recording], timeout=0.1)
        assert not recording.done()
        other.execute("COMMIT")
        await recording

    assert await store.read(["alice"]) == {"alice": 1.0}
    await store.close()


async def test_a_reader_does_not_wait_for_a_writer(path: Path):
    """The file is in WAL mode: reading goes on while another process writes."""
    store = SqliteLastSeen(path)
    await store.open()
    await store.record({"alice": 1.0})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE roost_last_seen SET seen_at = 2")

        assert await store.read(["alice"]) == {"alice": 1.0}

        other.execute("COMMIT")
    assert await store.read(["alice"]) == {"alice": 2.0}
    await store.close()


# SqliteLastSeen: files that can't be.


def no_folder(path: Path) -> Path:
    return path / "nowhere" / "seen.db"


def a_folder(path: Path) -> Path:
    path.mkdir()
    return path


def no_database(path: Path) -> Path:
    path.write_text("alice was here, " * 100)
    return path


def another_table(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE roost_last_seen (user TEXT)")
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_folder, "unable to open database file"),
        (a_folder, "unable to open database file"),
        (no_database, "file is not a database"),
        (another_table, "no such column: key"),
    ],
)
async def test_a_file_that_cannot_keep_times(path: Path, make, reason: str):
    """Open says which file and why, with SQLite's error as the cause, and leaves nothing open."""
    bad_path = make(path)
    store = SqliteLastSeen(bad_path)

    with pytest.raises(ConfigurationError, match=reason) as caught:
        await store.open()

    assert repr(str(bad_path)) in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert store_threads() == []


async def test_open_works_once_the_file_is_right(path: Path):
    """After an open that failed, the next one tries again."""
    store = SqliteLastSeen(path / "seen.db")
    with pytest.raises(ConfigurationError):
        await store.open()

    a_folder(path)

    await store.open()

    assert await store.read(["alice"]) == {}
    await store.close()


def test_an_empty_path_is_refused():
    """An empty path, for which SQLite would make a file that vanishes, is refused at once."""
    with pytest.raises(ConfigurationError, match="path"):
        SqliteLastSeen("")


# SqliteLastSeen: from open to close.


async def test_nothing_happens_before_open(path: Path):
    """A store that was only made has neither file nor thread, and says what is missing."""
    store = SqliteLastSeen(path)

    with pytest.raises(NotStarted, match="open"):
        await store.read(["alice"])
    with pytest.raises(NotStarted, match="open"):
        await store.record({"alice": 1.0})
    await store.close()

    assert files(path) == []


async def test_a_store_is_usable_until_all_who_opened_it_have_closed_it(path: Path):
    """A store that two presences opened is usable until both have closed it."""
    store = SqliteLastSeen(path)
    await asyncio.gather(store.open(), store.open())
    await store.close()
    await store.record({"alice": 1.0})
    assert await store.read(["alice"]) == {"alice": 1.0}

    await store.close()

    with pytest.raises(NotStarted):
        await store.read(["alice"])
    assert store_threads() == []


def test_a_store_opens_again_on_another_loop(path: Path):
    """After a close the same store opens on another loop, and finds what was recorded."""
    store = SqliteLastSeen(path)

    async def see(at: float) -> dict[str, float]:
        await store.open()
        try:
            before = await store.read(["alice"])
            await store.record({"alice": at})
            return before
        finally:
            await store.close()

    assert asyncio.run(see(1.0)) == {}
    assert asyncio.run(see(2.0)) == {"alice": 1.0}
    assert rows(path) == {"alice": 2.0}


def test_a_loop_that_ended_without_close_is_not_waited_for(path: Path):
    """Whoever opened the store on a loop that is closed needs no close any more."""
    store = SqliteLastSeen(path)
    asyncio.run(store.open())

    async def use() -> None:
        await store.open()
        await store.record({"alice": 1.0})
        await store.close()

    asyncio.run(use())
    assert store_threads() == []

    asyncio.run(store.open())
    asyncio.run(store.close())
    assert store_threads() == []


async def test_loops_of_two_threads_share_a_store(path: Path):
    """A store works for the loops of several threads at once, until the last has closed it."""
    store = SqliteLastSeen(path)
    await store.open()

    async def use() -> None:
        await store.open()
        await store.record({"alice": 1.0})
        await store.close()

    thread = threading.Thread(target=asyncio.run, args=(use(),))
    thread.start()
    thread.join()

    assert await store.read(["alice"]) == {"alice": 1.0}
    await store.close()


async def test_close_waits_for_what_is_being_recorded(path: Path):
    """What was handed over before the close is in the file after it."""
    store = SqliteLastSeen(path)
    await store.open()
    recording = asyncio.create_task(store.record({str(number): 1.0 for number in range(20_000)}))
    await asyncio.sleep(0)  # the task begins

    await store.close()

    assert len(rows(path)) == 20_000
    await recording


async def test_a_nested_close_waits_too(path: Path):
    """One of two who close waits for what is being recorded, though the store stays open."""
    store = SqliteLastSeen(path)
    await store.open()
    await store.open()
    recording = asyncio.create_task(store.record({str(number): 1.0 for number in range(20_000)}))
    await asyncio.sleep(0)

    await store.close()

    assert len(rows(path)) == 20_000
    await recording
    await store.close()


async def test_a_cancelled_close_closes(path: Path):
    """Who is cancelled amid the close does not leave the file open."""
    store = SqliteLastSeen(path)
    await store.open()
    (thread,) = store_threads()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        recording = asyncio.create_task(store.record({"alice": 1.0}))
        await asyncio.sleep(0)
        close = asyncio.create_task(store.close())
        await asyncio.sleep(0)  # it waits for the record, which waits for the lock
        close.cancel()
        await asyncio.wait([close])
        assert close.cancelled()
        other.execute("COMMIT")
    await recording

    thread.join(5)

    assert not thread.is_alive()
    assert files(path) == ["seen.db"]  # SQLite drops the others with the last connection


async def test_a_cancelled_open_leaves_nothing_open(path: Path):
    """Who is cancelled amid the open does not have to close."""
    store = SqliteLastSeen(path)
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])

    assert opening.cancelled()
    assert store_threads() == []
    with pytest.raises(NotStarted):
        await store.read(["alice"])


async def test_memory_keeps_times_until_the_last_user_closes_the_store():
    """``:memory:`` keeps times until the last user closes the store."""
    store = SqliteLastSeen(":memory:")
    await store.open()
    await store.record({"alice": 1.0})
    await store.open()
    await store.close()
    assert await store.read(["alice"]) == {"alice": 1.0}
    await store.close()

    await store.open()
    assert await store.read(["alice"]) == {}
    await store.close()


# LastSeenRecorder.


class FakeStore:
    """Keeps times in memory, fails and dawdles as the test says, and remembers its calls."""

    def __init__(self, **seen_at: float) -> None:
        self.seen_at = seen_at
        self.written: list[tuple[float, dict[str, float]]] = []  # when, on the loop's clock; what
        self.errors: list[BaseException] = []
        self.record_delay = 0.0
        self.read_delay = 0.0
        self.open_count = 0
        self.is_recording = False

    async def open(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.open_count += 1

    async def close(self) -> None:
        self.open_count -= 1

    async def record(self, seen_at: Mapping[str, float]) -> None:
        assert self.open_count
        assert not self.is_recording
        self.is_recording = True
        try:
            before = dict(seen_at)
            self.written.append((asyncio.get_running_loop().time(), before))
            await asyncio.sleep(self.record_delay)
            if self.errors:
                raise self.errors.pop(0)
            assert seen_at == before
            for key, at in before.items():
                self.seen_at[key] = max(at, self.seen_at.get(key, at))
        finally:
            self.is_recording = False

    async def read(self, keys: Collection[str]) -> dict[str, float]:
        assert self.open_count
        found = {key: self.seen_at[key] for key in keys if key in self.seen_at}
        await asyncio.sleep(self.read_delay)
        return found


class Scene:
    """A recorder that runs on a fake store."""

    def __init__(self, *, max_waiting: int = 100_000, **seen_at: float) -> None:
        self.store = FakeStore(**seen_at)
        self.counters: Counter[str] = Counter()
        self.recorder = LastSeenRecorder(self.store, self.counters, max_waiting=max_waiting)

    async def __aenter__(self) -> Scene:
        await self.recorder.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.recorder.stop()


def stores_fit_the_protocol() -> list[LastSeenStore]:
    """For mypy."""
    return [FakeStore(), SqliteLastSeen(":memory:")]


@virtually
async def test_one_write_in_a_period():
    """What was seen in a period is written at its end, in one call, with the latest times."""
    async with Scene() as scene:
        scene.recorder.seen("alice", 100.0)
        await asyncio.sleep(0.4)
        scene.recorder.seen("alice", 100.4)
        scene.recorder.seen("bob", 100.4)
        await asyncio.sleep(1.0)
        scene.recorder.seen("bob", 101.4)
        await asyncio.sleep(5.0)

        assert scene.store.written == [
            (1.0, {"alice": 100.4, "bob": 100.4}),
            (2.0, {"bob": 101.4}),
        ]


@virtually
async def test_the_flush_period_is_an_option():
    """The application says how often is written."""
    store = FakeStore()
    recorder = LastSeenRecorder(store, Counter(), flush_period=10.0)
    await recorder.start()
    recorder.seen("alice", 100.0)
    await asyncio.sleep(30.0)

    assert store.written == [(10.0, {"alice": 100.0})]
    await recorder.stop()


@virtually
async def test_an_earlier_time_changes_nothing():
    """Times may arrive in any order, the later one is written."""
    async with Scene() as scene:
        scene.recorder.seen("alice", 100.0)
        scene.recorder.seen("alice", 99.0)
        await scene.recorder.flush()

        assert scene.store.written == [(0.0, {"alice": 100.0})]


@virtually
async def test_flush_writes_now():
    """A flush does not wait for the period; without anything to write it writes nothing."""
    async with Scene() as scene:
        await scene.recorder.flush()
        assert scene.store.written == []

        scene.recorder.seen("alice", 100.0)
        await scene.recorder.flush()
        assert scene.store.written == [(0.0, {"alice": 100.0})]

        await scene.recorder.flush()
        assert len(scene.store.written) == 1


@virtually
async def test_one_write_at_a_time():
    """A flush amid a write waits for it, and then writes what came meanwhile."""
    async with Scene() as scene:
        scene.store.record_delay = 3.0
        scene.recorder.seen("alice", 100.0)
        await asyncio.sleep(1.5)  # the write runs from 1.0 to 4.0
        scene.recorder.seen("alice", 101.5)

        await scene.recorder.flush()

        assert scene.store.written == [(1.0, {"alice": 100.0}), (4.0, {"alice": 101.5})]
        assert scene.store.seen_at == {"alice": 101.5}


@virtually
async def test_read_knows_what_is_not_written_yet():
    """What waits is read like what is stored; the later time wins, unknown keys are missing."""
    async with Scene(alice=200.0, bob=50.0, dave=70.0) as scene:
        for key in ("alice", "bob", "carol"):
            scene.recorder.seen(key, 100.0)

        times = await scene.recorder.read(["alice", "bob", "carol", "dave", "erin"])

        assert times == {"alice": 200.0, "bob": 100.0, "carol": 100.0, "dave": 70.0}
        assert scene.store.written == []


@virtually
async def test_read_amid_a_write():
    """What is being written is read, even if the write ends between the store's answer and ours."""
    async with Scene() as scene:
        scene.store.record_delay = 1.0
        scene.store.read_delay = 5.0
        scene.recorder.seen("alice", 100.0)
        scene.recorder.seen("bob", 100.0)
        await asyncio.sleep(1.5)  # the write runs from 1.0 to 2.0
        scene.recorder.seen("bob", 101.5)

        assert await scene.recorder.read(["alice", "bob"]) == {"alice": 100.0, "bob": 101.5}


@virtually
async def test_what_failed_to_be_written_is_written_again(caplog: pytest.LogCaptureFixture):
    """A failure is logged and counted; the next period writes what it held and what came since."""
    async with Scene() as scene:
        scene.store.errors = [OSError("disk on fire"), OSError("disk still on fire")]
        scene.recorder.seen("alice", 100.0)
        scene.recorder.seen("bob", 100.0)
        await asyncio.sleep(1.5)
        scene.recorder.seen("bob", 101.5)
        assert await scene.recorder.read(["alice", "bob"]) == {"alice": 100.0, "bob": 101.5}
        await asyncio.sleep(5.0)

        assert scene.store.written == [
            (1.0, {"alice": 100.0, "bob": 100.0}),
            (2.0, {"alice": 100.0, "bob": 101.5}),
            (3.0, {"alice": 100.0, "bob": 101.5}),
        ]
        assert scene.counters == {"last_seen_failed": 2}
        assert [record.name for record in caplog.records] == ["roost.presence"]
        assert "FakeStore.record failed" in caplog.text
        assert "2 keys" in caplog.text
        assert "disk on fire" in caplog.text


@virtually
async def test_a_store_that_is_away_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture):
    """Each line says how often a write failed since the line before."""
    async with Scene() as scene:
        scene.store.errors = [OSError("disk on fire") for _ in range(62)]
        scene.recorder.seen("alice", 100.0)
        await asyncio.sleep(130.5)

        assert scene.counters == {"last_seen_failed": 62}
        what = "the last seen times of 1 keys wait for the next try"
        assert caplog.messages == [
            f"FakeStore.record failed {count} times, {what}" for count in (1, 59, 2)
        ]


@virtually
async def test_a_cancellation_inside_the_store_is_a_failure():
    """If the store lets out a cancellation that is not ours, the recorder goes on."""
    async with Scene() as scene:
        scene.store.errors = [asyncio.CancelledError()]
        scene.recorder.seen("alice", 100.0)
        await asyncio.sleep(5.0)

        assert scene.counters == {"last_seen_failed": 1}
        assert scene.store.seen_at == {"alice": 100.0}


@virtually
async def test_a_cancelled_flush_loses_nothing():
    """What a cancelled flush was writing is written by the next one."""
    async with Scene() as scene:
        scene.store.record_delay = 10.0
        scene.recorder.seen("alice", 100.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await scene.recorder.flush()
        scene.store.record_delay = 0.0

        await scene.recorder.flush()

        assert scene.store.seen_at == {"alice": 100.0}
        assert scene.counters == {}


@virtually
async def test_the_number_that_waits_is_bounded(caplog: pytest.LogCaptureFixture):
    """One key too many costs the one that was seen longest ago: counted and logged."""
    async with Scene(max_waiting=2) as scene:
        scene.recorder.seen("alice", 100.0)
        scene.recorder.seen("bob", 101.0)
        scene.recorder.seen("alice", 102.0)
        assert scene.counters == {}

        scene.recorder.seen("carol", 103.0)
        await scene.recorder.flush()

        assert scene.store.seen_at == {"alice": 102.0, "carol": 103.0}
        assert scene.counters == {"last_seen_full": 1}
        assert caplog.messages == ["FakeStore.record is too slow: dropped the times of 1 keys"]


@virtually
async def test_what_failed_counts_within_the_bound():
    """What waits for the next try is within the bound together with what came since."""
    async with Scene(max_waiting=2) as scene:
        scene.store.errors = [OSError()]
        scene.recorder.seen("alice", 100.0)
        scene.recorder.seen("bob", 101.0)
        await scene.recorder.flush()
        scene.recorder.seen("alice", 102.0)
        scene.recorder.seen("carol", 103.0)
        await scene.recorder.flush()

        assert scene.store.seen_at == {"alice": 102.0, "carol": 103.0}
        assert scene.counters == {"last_seen_failed": 1, "last_seen_full": 1}


def test_100_000_keys_wait_by_default():
    """By default 100,000 keys may wait."""
    counters: Counter[str] = Counter()
    recorder = LastSeenRecorder(FakeStore(), counters)
    for number in range(100_003):
        recorder.seen(str(number), 1.0)

    assert counters == {"last_seen_full": 3}


@virtually
async def test_stop_writes_what_waits_and_closes():
    """After stop everything is written, the store is closed and no task is left."""
    async with Scene() as scene:
        scene.recorder.seen("alice", 100.0)

    assert scene.store.written == [(0.0, {"alice": 100.0})]
    assert scene.store.open_count == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}

    await scene.recorder.stop()
    assert scene.store.open_count == 0


@virtually
async def test_stop_with_nothing_to_write():
    """A recorder that was told nothing writes nothing, and leaves no task either."""
    async with Scene() as scene:
        await asyncio.sleep(0.5)

    assert scene.store.written == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtually
async def test_stop_amid_a_write():
    """Stop waits for the write that is under way, and then writes what came meanwhile."""
    async with Scene() as scene:
        scene.store.record_delay = 3.0
        scene.recorder.seen("alice", 100.0)
        await asyncio.sleep(1.5)  # the write runs from 1.0 to 4.0
        scene.recorder.seen("bob", 101.5)

    assert scene.store.written == [(1.0, {"alice": 100.0}), (4.0, {"bob": 101.5})]
    assert scene.store.seen_at == {"alice": 100.0, "bob": 101.5}
    assert scene.counters == {}


@virtually
async def test_stop_with_a_store_that_fails(caplog: pytest.LogCaptureFixture):
    """If the last write fails, stop says how much was not written, and closes the store."""
    async with Scene() as scene:
        scene.store.errors = [OSError()]
        scene.recorder.seen("alice", 100.0)

    assert scene.store.open_count == 0
    assert "stopped with the last seen times of 1 keys" in caplog.text


@virtually
async def test_a_cancelled_stop_stops():
    """Who has no time to wait for the last write leaves no task and no open store."""
    scene = Scene()
    await scene.recorder.start()
    scene.store.record_delay = 10.0
    scene.recorder.seen("alice", 100.0)
    await asyncio.sleep(1.5)  # the write runs from 1.0 to 11.0

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await scene.recorder.stop()
    await asyncio.sleep(0)

    assert scene.store.open_count == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtually
async def test_start_fails_with_the_store():
    """If the store can't be opened, start raises its error and leaves nothing behind."""
    scene = Scene()
    scene.store.errors = [ConfigurationError("no such file")]

    with pytest.raises(ConfigurationError):
        await scene.recorder.start()

    assert asyncio.all_tasks() == {asyncio.current_task()}
    await scene.recorder.stop()
    assert scene.store.open_count == 0


def test_a_recorder_starts_again_on_another_loop():
    """After stop a recorder may start on another loop, and writes what was seen in between."""
    scene = Scene()

    async def run() -> None:
        async with scene:
            scene.store.record_delay = 0.5
            await asyncio.gather(scene.recorder.flush(), scene.recorder.flush())
            scene.recorder.seen("alice", asyncio.get_running_loop().time())
            await asyncio.gather(scene.recorder.flush(), scene.recorder.flush())

    run_virtually(run())
    scene.recorder.seen("bob", 100.0)
    run_virtually(run())

    assert scene.store.seen_at == {"alice": 0.5, "bob": 100.0}


async def test_recorders_of_two_presences_share_a_sqlite_store(path: Path):
    """Two recorders may have one SQLite store; what either wrote, both read."""
    store = SqliteLastSeen(path)
    here, there = LastSeenRecorder(store, Counter()), LastSeenRecorder(store, Counter())
    await here.start()
    await there.start()
    here.seen("alice", 1.0)
    there.seen("bob", 2.0)
    await there.stop()

    assert await here.read(["alice", "bob"]) == {"alice": 1.0, "bob": 2.0}

    await here.stop()
    assert rows(path) == {"alice": 1.0, "bob": 2.0}
