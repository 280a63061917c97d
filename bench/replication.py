"""What it costs to hold the presences of other nodes, and what the nodes say to each other.

Method. A *copy* is a tracker that has learned all its presences from one other node, by messages
that were encoded and decoded. Steps that change it come in turns that leave its size as it was
(updates; leaves of presences drawn at random; their return), each of ``CHANGE_COUNT`` changes.
Sizes take turns as in ``bench.tracker``, each in a process of its own, one at work at a time. Times
are of the processor, so that other jobs count as little as can be. They include
``tracker.events()``, but not what subscribers are told. Garbage collection is left on.

Traffic is counted, not timed: ``roost.testing.simulation`` runs the protocol objects of all nodes
with a network that neither loses nor delays much, and counts each message once for each receiver.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final

import psutil

from bench.plot import plot_lines
from bench.table import format_figure, format_ratio, format_size, markdown_table, parse_size
from bench.tracker import new_process
from roost.crdt.cutter import Cutter
from roost.crdt.held import HeldSlice
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Slice
from roost.testing.simulation import Simulation
from roost.tracker.messages import (
    MAX_PART_COUNT,
    MAX_PART_SIZE,
    Changes,
    ChunkTransfer,
    Heartbeat,
    Hello,
    Part,
    Row,
    decode_message,
    encode_message,
)
from roost.tracker.protocol import TrackerProtocol
from roost.tracker.replication import ReplicationProtocol

__all__ = ["Effort", "Traffic", "add_arguments", "count_traffic", "run"]

THEM: Final = OriginId("b", 1, 8)
CHANGE_COUNT: Final = 1_000
KINDS: Final = ("updates", "leaves", "joins")
GC_FULL: Final = "full garbage collection"
MEMORY: Final = "memory per remote presence"
RATES: Final = (0, 10, 1_000)


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Args:
        round_count: Rounds over all sizes, and repetitions of the rest.
        snapshot_count: Presences of the node whose snapshot is taken, and which comes and goes.
        seconds: Of the simulated time over which traffic is counted.
    """

    round_count: int = 15
    snapshot_count: int = 100_000
    seconds: float = 15.0


def _row(number: int, seq: int) -> Row:
    meta = f'{{"online_at":1795323696,"phx_ref":"{THEM.ref(seq)}"}}'
    return Row("room:1", f"user-{number}", meta.encode(), number, seq)


class Copy:
    """A node that holds ``size`` presences of another one."""

    def __init__(self, size: int) -> None:
        self.tracker = TrackerProtocol(Slice(OriginId("a", 1, 7)))
        self.replication = ReplicationProtocol(
            self.tracker.own, rng=random.Random(1), new_nonce=lambda: 1, now=0.0
        )
        self.replication.add_tracker(self.tracker)
        self.now = 0.0
        self.seq = 0
        self._seqs = array("q", bytes(8 * size))  # of each presence
        self._rng = random.Random(size)
        self.receive(encode_message(Hello(THEM, 0)))
        for start in range(0, size, CHANGE_COUNT):
            self.receive(self.change(range(start, min(start + CHANGE_COUNT, size)), "joins"))
        assert self.tracker.count_entries("room:1") == size

    def change(self, numbers: Iterable[int], kind: str) -> bytes:
        """The message that tells of changes of these presences."""
        return encode_message(Changes(THEM, self._part(numbers, kind), self.seq))

    def _part(self, numbers: Iterable[int], kind: str) -> Part:
        start = self.seq
        added = []
        removed = []
        for number in numbers:
            self.seq += 1
            if kind != "joins":
                removed.append(self._seqs[number])
            if kind != "leaves":
                self._seqs[number] = self.seq
                added.append(_row(number, self.seq))
        return Part(start, self.seq, tuple(added), tuple(removed))

    def receive(self, data: bytes) -> None:
        """What a shell does with bytes from another node."""
        message = decode_message(data)
        assert message is not None
        self.replication.receive(message, self.now)
        self.tracker.events()
        self.replication.messages_to_send()

    def time_changes(self) -> dict[str, float]:
        """Seconds for the changes of each kind."""
        size = len(self._seqs)
        numbers = self._rng.sample(range(size), min(CHANGE_COUNT, size))
        figures = {}
        for kind in KINDS:
            data = self.change(numbers, kind)
            figures[f"decode and receive: {kind}"] = _time(self.receive, data)
            message = decode_message(data)
            assert isinstance(message, Changes)
            figures[f"of it decode: {kind}"] = _time(decode_message, data)
            figures[f"encode: {kind}"] = _time(encode_message, message)
        return figures

    def time_bare(self) -> dict[str, float]:
        """Seconds for the changes of each kind in a slice alone, of the same size."""
        (peer,) = self.replication.peers
        held = HeldSlice()
        held.take(peer.held.snapshot())
        (old_seq, old_seqs) = self.seq, array("q", self._seqs)
        numbers = self._rng.sample(range(len(old_seqs)), min(CHANGE_COUNT, len(old_seqs)))
        figures = {}
        for kind in KINDS:
            part = self._part(numbers, kind)
            change = part.range(THEM.ref_prefix)
            figures[f"HeldSlice.apply: {kind}"] = _time(held.apply, change)
        self.seq, self._seqs = old_seq, old_seqs
        return figures

    def silence(self) -> None:
        """The other node says no more until it is down."""
        while self.tracker.count_entries("room:1"):
            self._beat()

    def _beat(self) -> None:
        self.now += 1.5
        self.replication.handle_timer(self.now)
        self.replication.messages_to_send()


# What runs in the processes of their own.

_copies: list[Copy] = []


def _fill(size: int) -> dict[str, float]:
    process = psutil.Process()
    gc.collect()
    before: int = process.memory_info().rss
    copies = [Copy(size) for _ in range(-(-100_000 // size))]
    gc.collect()
    after: int = process.memory_info().rss
    _copies.append(copies[0])
    return {MEMORY: (after - before) / (len(copies) * size)}


def _round() -> dict[str, float]:
    (copy,) = _copies
    return {**copy.time_changes(), **copy.time_bare(), GC_FULL: _time(gc.collect)}


def _cut(theirs: Slice) -> list[Chunk]:
    """All of a slice, in the chunks that a newcomer is sent."""
    cutter = Cutter(theirs.entries)
    chunks: list[Chunk] = []
    upto: int | None = None
    while upto != 0:
        chunk = cutter.cut(
            0,
            upto,
            end=theirs.seq,
            known=(0, 0),
            max_size=MAX_PART_SIZE,
            max_count=MAX_PART_COUNT,
        )
        chunks.append(chunk)
        upto = chunk.above
    return chunks


def _snapshot(size: int) -> dict[str, float]:
    """One snapshot on its way, then its node down and up again."""
    theirs = Slice(THEM)
    for number in range(size):
        row = _row(number, theirs.seq + 1)
        theirs.add(row.topic, row.key, row.meta, owner=row.owner)
    figures: dict[str, float] = {}

    def note(name: str, since: float) -> None:
        figures[name] = process_time() - since

    since = process_time()
    chunks = _cut(theirs)
    note("cut", since)
    since = process_time()
    encoded = [
        encode_message(
            ChunkTransfer.of(
                chunk, sender=THEM, origin=THEM, number=1, mark=1, is_last=chunk.above == 0
            )
        )
        for chunk in chunks
    ]
    note("encode", since)
    figures["size, bytes"] = sum(map(len, encoded))
    figures["messages"] = len(encoded)
    since = process_time()
    decoded = [decode_message(data) for data in encoded]
    note("decode", since)
    held = HeldSlice()
    since = process_time()
    for message in decoded:
        assert isinstance(message, ChunkTransfer)
        held.take(message.chunk())
    note("take into an empty HeldSlice", since)
    assert len(held) == size
    assert not held.is_partial
    del decoded, held, chunks

    copy = Copy(0)
    steps = []
    since = process_time()
    for data in encoded:
        step = process_time()
        copy.receive(data)
        steps.append(process_time() - step)
    note("decode and receive, in all", since)
    figures["the longest of its messages"] = max(steps)
    assert copy.tracker.count_entries("room:1") == size

    since = process_time()
    copy.silence()
    note("down: all leave", since)
    copy.tracker.events()
    since = process_time()
    # It beats again, and its slice, which was kept, is shown.
    copy.receive(encode_message(Heartbeat(THEM, theirs.seq, 0)))
    note("up: all join", since)
    assert copy.tracker.count_entries("room:1") == size
    return figures


def _time(call: Callable[..., object], *arguments: object) -> float:
    start = process_time()
    call(*arguments)
    return process_time() - start


# Traffic.


@dataclass(frozen=True)
class Traffic:
    """What one node of a cluster sends, each message counted once for each receiver.

    Args:
        messages: Per second.
        size: Bytes per second.
        cpu: Seconds of processor time per second and node, the simulation's own included.
    """

    messages: float
    size: float
    cpu: float


def count_traffic(
    node_count: int, rates: Sequence[int], seconds: float
) -> tuple[Traffic, dict[int, Traffic]]:
    """The traffic of a cluster while it starts, in sum and not per second; and at each rate."""
    sim = Simulation(seed=1, nodes=[f"node-{number}" for number in range(node_count)])

    def take(since: float, per: float) -> Traffic:
        per *= node_count
        traffic = Traffic(
            sim.sent.total() / per, sim.sent_size / per, (process_time() - since) / per
        )
        sim.sent.clear()
        sim.sent_size = 0
        return traffic

    since = process_time()
    sim.advance(4.0)
    start = take(since, 1.0)
    figures = {}
    tracked: list[tuple[str, int]] = []
    for rate in rates:
        since = process_time()
        for _ in range(round(rate * seconds)):
            # Joins and leaves in turns, each on a node drawn at random.
            if len(tracked) > node_count and sim.rng.random() < 0.5:
                name, owner = tracked.pop(sim.rng.randrange(len(tracked)))
                sim.nodes[name].end(owner)
            else:
                name = sim.rng.choice(list(sim.nodes))
                key = f"user-{sim.rng.randrange(10**6)}"
                owner = sim.nodes[name].track("room:1", key, {"online_at": 1795323696})
                tracked.append((name, owner))
            sim.advance(1 / rate)
        if not rate:
            sim.advance(seconds)
        figures[rate] = take(since, seconds)
    return start, figures


# What leads them.


def measure(sizes: Sequence[int], effort: Effort) -> dict[int, dict[str, list[float]]]:
    """Size → what was measured → samples."""
    samples: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}

    def note(size: int, figures: Mapping[str, float]) -> None:
        for name, figure in figures.items():
            samples[size].setdefault(name, []).append(figure)

    with ExitStack() as stack:
        processes = {size: stack.enter_context(new_process()) for size in sizes}
        for size, process in processes.items():
            note(size, process.submit(_fill, size).result())
        for _ in range(effort.round_count):
            for size, process in processes.items():
                note(size, process.submit(_round).result())
    return samples


def measure_snapshot(effort: Effort) -> dict[str, list[float]]:
    """What was measured → samples, each in a process of its own."""
    samples: dict[str, list[float]] = {}
    for _ in range(max(1, effort.round_count // 3)):
        with new_process() as process:
            for name, figure in process.submit(_snapshot, effort.snapshot_count).result().items():
                samples.setdefault(name, []).append(figure)
    return samples


def render(samples: Mapping[int, Mapping[str, Sequence[float]]]) -> str:
    """The tables of ``measure``."""
    sizes = list(samples)
    header = [*map(format_size, sizes), f"{format_size(sizes[-1])} ÷ {format_size(sizes[0])}"]

    def cells(name: str) -> list[str]:
        best = [min(samples[size][name]) for size in sizes]
        usual = [median(samples[size][name]) for size in sizes]
        return [
            *(
                f"{format_figure(low * 1e3)} ({format_figure(middle * 1e3)})"
                for low, middle in zip(best, usual, strict=True)
            ),
            format_ratio(best),
        ]

    parts = ("HeldSlice.apply", "decode and receive", "of it decode", "encode")
    names = [f"{part}: {kind}" for part in parts for kind in KINDS]
    memory = [samples[size][MEMORY][0] for size in sizes]
    return "\n\n".join(
        [
            f"### {CHANGE_COUNT:,} changes, into copies of each size",
            markdown_table(
                ["ms, best (median)", *header], [[name, *cells(name)] for name in names]
            ),
            markdown_table(
                ["", *header],
                [
                    [f"{MEMORY}, bytes", *map(format_figure, memory), format_ratio(memory)],
                    [f"{GC_FULL}, ms", *cells(GC_FULL)],
                ],
            ),
        ]
    )


def render_snapshot(samples: Mapping[str, Sequence[float]], size: int) -> str:
    """The table of ``measure_snapshot``."""
    plain = ("messages", "size, bytes")
    rows = [
        [name, format_figure(min(each) * 1e3), format_figure(median(each) * 1e3)]
        for name, each in samples.items()
        if name not in plain
    ]
    count, bytes_ = (samples[name][0] for name in plain)
    return (
        f"### A node of {size:,} presences: its snapshot, and its end\n\n"
        f"{markdown_table(['ms', 'best', 'median'], rows)}\n\n"
        f"The snapshot has {count:,.0f} messages and {bytes_ / 1e6:.1f} MB."
    )


def render_traffic(
    traffic: Mapping[int, tuple[Traffic, Mapping[int, Traffic]]], seconds: float
) -> str:
    """The table of ``count_traffic``, by the number of nodes."""
    rates = list(next(iter(traffic.values()))[1])

    def title(rate: int) -> str:
        return f"{rate:,} changes/s" if rate else "idle"

    header = ["nodes", "start: messages", "kB"]
    for rate in rates:
        header += [f"{title(rate)}: messages/s", "kB/s", "CPU, %"]
    rows = []
    for node_count, (start, figures) in traffic.items():
        row = [str(node_count), format_figure(start.messages), format_figure(start.size / 1e3)]
        for each in figures.values():
            row += [format_figure(each.messages), format_figure(each.size / 1e3)]
            row += [format_figure(each.cpu * 100)]
        rows.append(row)
    return (
        f"### What each node sends, over {seconds:g} s\n\n{markdown_table(header, rows)}\n\n"
        "Start is the sum for a node if all start at once."
    )


def plot_traffic(traffic: Mapping[int, tuple[Traffic, Mapping[int, Traffic]]]) -> str:
    """The kB/s that each node sends as an SVG picture, by the number of nodes."""
    rates = list(next(iter(traffic.values()))[1])
    return plot_lines(
        "What each node sends, kB/s, by the number of nodes",
        {
            f"{rate:,} changes/s in the cluster" if rate else "idle": [
                (node_count, figures[rate].size / 1e3)
                for node_count, (_, figures) in traffic.items()
            ]
            for rate in rates
        },
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def sizes(text: str) -> list[int]:
        return [parse_size(size) for size in text.split(",")]

    parser.add_argument(
        "--sizes",
        type=sizes,
        default=[1_000, 10_000, 100_000, 200_000, 1_000_000],
        metavar="1k,10k,…",
        help="presences held of another node (default: 1k,10k,100k,200k,1M)",
    )
    parser.add_argument(
        "--nodes",
        type=sizes,
        default=[2, 5, 10, 20, 50, 100, 200],
        metavar="2,5,…",
        help="nodes of the simulated clusters (default: 2,5,10,20,50,100,200)",
    )
    parser.add_argument("--rounds", type=int, default=Effort().round_count, help="rounds")
    parser.add_argument(
        "--seconds",
        type=float,
        default=Effort().seconds,
        help="simulated seconds at each rate of changes (default: 15, ten heartbeats)",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="plot the traffic to FILE")
    parser.add_argument(
        "--only", choices=("changes", "snapshot", "traffic"), help="one of the three parts"
    )


def run(arguments: argparse.Namespace, effort: Effort | None = None) -> str:
    """Measure and return the tables."""
    effort = effort or Effort(round_count=arguments.rounds, seconds=arguments.seconds)
    parts = []
    if arguments.only in (None, "changes"):
        print("… changes", file=sys.stderr)
        parts.append(render(measure(arguments.sizes, effort)))
    if arguments.only in (None, "snapshot"):
        print("… snapshot", file=sys.stderr)
        parts.append(render_snapshot(measure_snapshot(effort), effort.snapshot_count))
    if arguments.only in (None, "traffic"):
        traffic = {}
        for node_count in arguments.nodes:
            print(f"… {node_count} nodes", file=sys.stderr)
            with new_process() as process:
                traffic[node_count] = process.submit(
                    count_traffic, node_count, RATES, effort.seconds
                ).result()
        parts.append(render_traffic(traffic, effort.seconds))
        if arguments.svg is not None:
            arguments.svg.write_text(plot_traffic(traffic), encoding="utf-8")
    return "\n\n".join(parts) + "\n"
