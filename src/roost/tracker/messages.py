"""What trackers say to each other.

Every message is a declared type of bounded size. It is encoded as a MessagePack array that begins
with the number of its kind: fields are only ever added at the end, where older nodes overlook them,
and kinds that a node does not know are skipped and counted. The heartbeat's first fields are frozen
for ever, so that nodes of all versions know of each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from roost.crdt.entry import Entry
from roost.crdt.origin import OriginId
from roost.crdt.slice import Range
from roost.strict_json import DECODE_ERRORS, decode_json

__all__ = [
    "VERSIONS",
    "Alive",
    "Changes",
    "Digest",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "Part",
    "Probe",
    "Request",
    "Superseded",
    "TrackerMessage",
    "Transfer",
    "decode_message",
    "encode_message",
    "split",
]

VERSIONS: Final = (1, 1)
"""The lowest and the highest version of the messages that this node reads."""

MAX_INCARNATION: Final = 2**63  # half of what MessagePack can say, so that one can add to it
MAX_PART_COUNT: Final = 1_000  # entries and removals in one part
MAX_PART_SIZE: Final = 262_144  # bytes of metas in one part, the last entry excluded


class _Message(msgspec.Struct, frozen=True, array_like=True):
    pass


class Heartbeat(_Message, frozen=True, tag=0):
    """I am here.

    Args:
        sender: Who.
        seq: The last of its changes that it has broadcast.
        digest: Hash of its digest; nodes that hold the same have the same.
        versions: The lowest and the highest message version that it reads.
    """

    sender: OriginId
    seq: int
    digest: int
    versions: tuple[int, int] = VERSIONS


class Hello(_Message, frozen=True, tag=1):
    """I am new here, or back: tell me your digest."""

    sender: OriginId
    seq: int
    versions: tuple[int, int] = VERSIONS


class Part(_Message, frozen=True):
    """A part of a range or snapshot; it is applied once all parts are there.

    Args:
        start: As in ``Range``.
        end: As in ``Range``.
        index: Which part it is, from 0.
        count: How many there are.
        added: Rows of (topic, key, meta, owner, seq, hidden).
        removed: As in ``Range``.
    """

    start: int | None
    end: int
    index: int
    count: int
    added: tuple[tuple[str, str, bytes, int, int, bool], ...]
    removed: tuple[int, ...]

    def entries(self, ref_prefix: str) -> Iterator[Entry]:
        for topic, key, meta, owner, seq, hidden in self.added:
            yield Entry(topic, key, meta, owner, ref_prefix, seq, hidden)


class Changes(_Message, frozen=True, tag=2):
    """What the sender changed, broadcast as it happens."""

    sender: OriginId
    part: Part


class Digest(_Message, frozen=True, tag=3):
    """What the sender holds.

    Args:
        sender: Who.
        seqs: Origin → number of its slice here, the sender's own included.
        closed: Origins that said goodbye.
    """

    sender: OriginId
    seqs: tuple[tuple[OriginId, int], ...]
    closed: tuple[OriginId, ...] = ()


class Request(_Message, frozen=True, tag=4):
    """Send me what you hold of ``origin`` beyond ``after``."""

    sender: OriginId
    origin: OriginId
    after: int
    number: int


class Transfer(_Message, frozen=True, tag=5):
    """The answer to a request."""

    sender: OriginId
    origin: OriginId
    number: int
    part: Part


class Probe(_Message, frozen=True, tag=6):
    """Is ``target`` alive?

    Args:
        sender: Who asks.
        target: Who is asked.
        nonce: Comes back with the answer, and proves that it is fresh.
        via: Through whom the question came, or is to go: the answer takes the same way. None: both
            go directly.
    """

    sender: OriginId
    target: OriginId
    nonce: int
    via: str | None = None


class Alive(_Message, frozen=True, tag=7):
    """I am.

    Args:
        sender: The target of the probe.
        asker: Name of the node that asked.
        nonce: That of the probe.
        seq: The last of its changes that it has broadcast.
    """

    sender: OriginId
    asker: str
    nonce: int
    seq: int


class Goodbye(_Message, frozen=True, tag=8):
    """I leave, for good under this id."""

    sender: OriginId


class Superseded(_Message, frozen=True, tag=9):
    """I know a higher id of your name: take one above it."""

    sender: OriginId
    highest: OriginId


TrackerMessage: TypeAlias = (
    Heartbeat | Hello | Changes | Digest | Request | Transfer | Probe | Alive | Goodbye | Superseded
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[TrackerMessage] = msgspec.msgpack.Decoder(TrackerMessage)


def encode_message(message: TrackerMessage) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def decode_message(data: bytes) -> TrackerMessage | None:
    """The message in ``data``; None if it is none that this version knows, or it is unsound."""
    try:
        message = _decoder.decode(data)
        _check_origin(message.sender)
        match message:
            case Changes(sender, part):
                _check_part(part, sender)
            case Transfer(_, origin, _, part):
                _check_origin(origin)
                _check_part(part, origin)
            case Superseded(_, highest):
                _check_origin(highest)
    except DECODE_ERRORS:
        return None
    return message


def _check_origin(origin: OriginId) -> None:
    """Refs spell the nonce, and the next life counts on from the incarnation."""
    if not (0 <= origin.incarnation < MAX_INCARNATION and origin.nonce >= 0):
        raise ValueError(f"not an id: {origin!r}")


def _check_part(part: Part, origin: OriginId) -> None:
    """Metas go to clients as they are: they must be JSON, and carry the ref of their entry."""
    for _, _, meta, _, seq, _ in part.added:
        decoded = decode_json(meta)
        if type(decoded) is not dict or decoded.get("phx_ref") != origin.ref(seq):
            raise ValueError("not the meta of its entry")


def split(change: Range) -> list[Part]:
    """A range in parts of bounded size, at least one."""
    chunks: list[tuple[list[Entry], list[int]]] = [([], [])]
    count = size = 0
    items: Iterable[Entry | int] = (*change.removed, *change.added)
    for item in items:
        if count >= MAX_PART_COUNT or size >= MAX_PART_SIZE:
            chunks.append(([], []))
            count = size = 0
        count += 1
        if isinstance(item, Entry):
            size += len(item.meta)
            chunks[-1][0].append(item)
        else:
            chunks[-1][1].append(item)
    return [
        Part(
            change.start,
            change.end,
            index,
            len(chunks),
            tuple((e.topic, e.key, e.meta, e.owner, e.seq, e.hidden) for e in added),
            tuple(removed),
        )
        for index, (added, removed) in enumerate(chunks)
    ]
