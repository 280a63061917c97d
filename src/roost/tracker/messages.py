"""What trackers say to each other.

Every message is a declared type of bounded size. It is encoded as a MessagePack array that begins
with the number of its kind: fields are only ever added at the end, where older nodes overlook them,
and kinds that a node does not know are skipped and counted. The heartbeat's first fields are frozen
for ever, so that nodes of all versions know of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from sys import intern
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from roost.crdt.entry import Entry
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Range
from roost.exceptions import InvalidMessage
from roost.naming import DEFAULT_LIMITS, MAX_NAME_SIZE, RESERVED_KEYS, NameLimits, is_short
from roost.strict_json import DECODE_ERRORS, decode_json

__all__ = [
    "VERSIONS",
    "Alive",
    "Changes",
    "ChunkTransfer",
    "Digest",
    "Forked",
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
    "encodable",
    "encode_message",
]

VERSIONS: Final = (2, 2)
"""The lowest and the highest version of the messages that this node reads."""

LAST_KIND: Final = 11  # of this version
MAX_KIND: Final = 127  # what MessagePack says in one byte
MAX_INCARNATION: Final = 2**63  # half of what MessagePack can say, so that one can add to it
MAX_NODE_NAME_SIZE: Final = MAX_NAME_SIZE + 17  # bytes: a name that a node took itself has more
MAX_PART_COUNT: Final = 1_000  # entries and removals in one part
MAX_PART_SIZE: Final = 65_536  # bytes of one part, unless a single change has more
MAX_GAP_COUNT: Final = 100  # gaps named in one request; the next one names the others


class _Message(msgspec.Struct, frozen=True, array_like=True):
    pass


class Heartbeat(_Message, frozen=True, tag=0):
    """I am here.

    Args:
        sender: Who.
        seq: The last of its changes that it has broadcast.
        digest: Hash of its digest; nodes that hold the same have the same.
        versions: The lowest and the highest message version that it reads.
        link: What its adapter calls the way to it.
    """

    sender: OriginId
    seq: int
    digest: int
    versions: tuple[int, int] = VERSIONS
    link: str = ""


class Hello(_Message, frozen=True, tag=1):
    """I am new here, or back, or I have just met you: tell me your digest."""

    sender: OriginId
    seq: int
    versions: tuple[int, int] = VERSIONS
    link: str = ""


class Row(_Message, frozen=True, gc=False):
    """An entry, without what all entries of its origin share."""

    topic: str
    key: str
    meta: bytes
    owner: int
    seq: int
    hidden: bool = False
    tracker: str = ""


class Part(_Message, frozen=True):
    """A range: what one broadcast of its origin said, to be applied by itself.

    Args:
        start: As in ``Range``.
        end: As in ``Range``.
        added: As in ``Range``.
        removed: As in ``Range``.
        marks: Of the numbers that it begins and ends with (``roost.tracker.path``).
    """

    start: int
    end: int
    added: tuple[Row, ...]
    removed: tuple[int, ...]
    marks: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, change: Range, marks: tuple[int, int]) -> Part:
        """The part that says a range."""
        return cls(change.start, change.end, _rows(change.added), change.removed, marks)

    def range(self, ref_prefix: str) -> Range:
        """The range that it says."""
        return Range(self.start, self.end, _entries(self.added, ref_prefix), self.removed)


class Changes(_Message, frozen=True, tag=2):
    """What the sender changed, broadcast as it happens.

    Args:
        sender: Who.
        part: The change, or some of it.
        seq: The last of the sender's changes: there is more if the part ends before it.
    """

    sender: OriginId
    part: Part
    seq: int


class Digest(_Message, frozen=True, tag=3):
    """What the sender holds.

    Args:
        sender: Who.
        seqs: Origin → number of its slice here, the sender's own included.
        closed: Origins that said goodbye.
        marks: Of the numbers in ``seqs``, in the same order.
    """

    sender: OriginId
    seqs: tuple[tuple[OriginId, int], ...]
    closed: tuple[OriginId, ...] = ()
    marks: tuple[int, ...] = ()


class Request(_Message, frozen=True, tag=4):
    """Send me what you hold of ``origin`` beyond ``after``.

    Args:
        sender: Who asks.
        origin: Whose slice it is about.
        after: The number that the sender's next range has to begin at.
        number: Comes back with the answer.
        mark: That of ``after``.
        gaps: What the sender lacks of a slice that came in part; the answer has it in chunks.
        known: (a, b): of entries with seqs in (a, b] chunks need only name these.
        until: What begins at this number is here already; 0: nothing is.
    """

    sender: OriginId
    origin: OriginId
    after: int
    number: int
    mark: int = 0
    gaps: tuple[tuple[int, int | None], ...] = ()
    known: tuple[int, int] = (0, 0)
    until: int = 0


class Transfer(_Message, frozen=True, tag=5):
    """Ranges in answer to a request.

    Args:
        sender: Who answers.
        origin: Whose changes they are.
        number: That of the request.
        parts: Ranges, each beginning where the one before it ends.
        is_last: The answer ends with it.
    """

    sender: OriginId
    origin: OriginId
    number: int
    parts: tuple[Part, ...]
    is_last: bool


class ChunkTransfer(_Message, frozen=True, tag=11):
    """A chunk in answer to a request.

    Args:
        sender: Who answers.
        origin: Whose slice it is of.
        number: That of the request.
        is_last: The answer ends with it.
        above: As in ``Chunk``.
        upto: As in ``Chunk``.
        end: As in ``Chunk``.
        mark: That of ``end``.
        added: As in ``Chunk``.
        kept: As in ``Chunk``.
        check: As in ``Chunk``.
    """

    sender: OriginId
    origin: OriginId
    number: int
    is_last: bool
    above: int
    upto: int | None
    end: int
    mark: int
    added: tuple[Row, ...]
    kept: tuple[int, ...] = ()
    check: int = 0

    @classmethod
    def of(
        cls,
        chunk: Chunk,
        *,
        sender: OriginId,
        origin: OriginId,
        number: int,
        mark: int,
        is_last: bool,
    ) -> ChunkTransfer:
        """The message that carries a chunk."""
        rows = _rows(chunk.added)
        return cls(
            sender,
            origin,
            number,
            is_last,
            chunk.above,
            chunk.upto,
            chunk.end,
            mark,
            rows,
            chunk.kept,
            chunk.check,
        )

    def chunk(self) -> Chunk:
        """The chunk that it carries."""
        added = _entries(self.added, self.origin.ref_prefix)
        return Chunk(self.above, self.upto, self.end, added, self.kept, self.check)


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


class Forked(_Message, frozen=True, tag=10):
    """Two histories are told under the id ``origin``: take one above it."""

    sender: OriginId
    origin: OriginId


TrackerMessage: TypeAlias = (
    Heartbeat
    | Hello
    | Changes
    | Digest
    | Request
    | Transfer
    | ChunkTransfer
    | Probe
    | Alive
    | Goodbye
    | Superseded
    | Forked
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[TrackerMessage] = msgspec.msgpack.Decoder(TrackerMessage)


def encode_message(message: TrackerMessage) -> bytes:
    """The bytes of a message."""
    return _encoder.encode(message)


def encodable(message: TrackerMessage) -> TrackerMessage | None:
    """A message without the rows that can't be encoded; None if it has no such rows.

    No door lets such names in. Should one have got in, it is not to take others along.
    """
    match message:
        case Changes(part=part):
            sound: TrackerMessage = replace(message, part=_encodable_part(part))
        case Transfer(parts=parts):
            sound = replace(message, parts=tuple(map(_encodable_part, parts)))
        case ChunkTransfer(added=added):
            sound = replace(message, added=_encodable_rows(added))
        case _:
            return None
    return None if sound == message else sound


def _encodable_part(part: Part) -> Part:
    return replace(part, added=_encodable_rows(part.added))


def _encodable_rows(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    sound = []
    for row in rows:
        with suppress(UnicodeEncodeError, TypeError, OverflowError):
            _encoder.encode(row)
            sound.append(row)
    return tuple(sound)


def decode_message(
    data: bytes,
    *,
    limits: NameLimits = DEFAULT_LIMITS,
    counters: Counter[str] | None = None,
) -> TrackerMessage | None:
    """The message in ``data``; None if it is of a kind that only later versions know.

    A row whose names are too long, or whose key clients can't have, is left out: its origin may be
    of an older version, or have other limits, and the rest of what it tracks is to be seen.

    Args:
        data: The bytes.
        limits: How long the names of rows may be.
        counters: Where rows that are left out are counted, as ``unsound_row``.

    Raises:
        InvalidMessage: It is no message.
    """
    try:
        if _decode_kind(data) > LAST_KIND:
            return None
        message = _decoder.decode(data)
        _check_origin(message.sender)
        match message:
            case Changes(sender, part):
                sound = _sound_part(part, sender, limits, counters)
                if sound is not part:
                    message = replace(message, part=sound)
            case Transfer(_, origin, _, parts):
                _check_origin(origin)
                message = replace(
                    message,
                    parts=tuple([_sound_part(part, origin, limits, counters) for part in parts]),
                )
            case ChunkTransfer(origin=origin, added=added):
                _check_origin(origin)
                rows = _sound_rows(added, origin, limits, counters)
                if rows is not added:
                    message = replace(message, added=rows)
            case Superseded(_, highest):
                _check_origin(highest)
            case Heartbeat(_, _, _, _, link) | Hello(_, _, _, link):
                _check_name(link)
            case Digest(_, seqs, closed):
                for origin, _ in seqs:
                    _check_name(origin.name)
                for origin in closed:
                    _check_name(origin.name)
            case Request(_, origin):
                _check_name(origin.name)
            case Probe(_, target, _, via):
                _check_name(target.name)
                _check_name(via or "")
            case Alive(_, asker):
                _check_name(asker)
    except DECODE_ERRORS as error:
        raise InvalidMessage("a tracker's message", str(error)) from error
    return message


def _decode_kind(data: bytes) -> int:
    """The number that a message's array begins with."""
    # The first byte says array; up to 15 elements are said in one byte.
    if len(data) < 2 or data[0] & 0xF0 != 0x90 or data[1] > MAX_KIND:
        raise ValueError("not an array that begins with a kind")
    return data[1]


def _check_origin(origin: OriginId) -> None:
    """Refs spell the nonce, and the next life counts on from the incarnation."""
    _check_name(origin.name)
    if not (0 <= origin.incarnation < MAX_INCARNATION and origin.nonce >= 0):
        raise ValueError(f"not an id: {origin!r}")


def _check_name(name: str) -> None:
    """The name of a node or link is remembered for as long as anybody asks for it."""
    if not is_short(name, MAX_NODE_NAME_SIZE):
        raise ValueError(f"a name of {len(name.encode())} bytes")


def _sound_part(
    part: Part, origin: OriginId, limits: NameLimits, counters: Counter[str] | None
) -> Part:
    rows = _sound_rows(part.added, origin, limits, counters)
    return part if rows is part.added else replace(part, added=rows)


def _sound_rows(
    rows: tuple[Row, ...], origin: OriginId, limits: NameLimits, counters: Counter[str] | None
) -> tuple[Row, ...]:
    """The rows without those whose names can't be shown to clients."""
    # A character has at most four bytes: nearly all rows pass by this, without being measured.
    topic_length, key_length = limits.max_topic_size // 4, limits.max_key_size // 4
    name_length = MAX_NAME_SIZE // 4
    sound = [
        row
        for row in rows
        if row.key not in RESERVED_KEYS
        and (len(row.topic) <= topic_length or is_short(row.topic, limits.max_topic_size))
        and (len(row.key) <= key_length or is_short(row.key, limits.max_key_size))
        and (len(row.tracker) <= name_length or is_short(row.tracker))
    ]
    _check_metas(sound, origin)
    left_out_count = len(rows) - len(sound)
    if not left_out_count:
        return rows
    if counters is not None:
        counters["unsound_row"] += left_out_count
    return tuple(sound)


def _check_metas(rows: Iterable[Row], origin: OriginId) -> None:
    """Metas go to clients as they are: they must be JSON, and carry the ref of their entry."""
    prefix = origin.ref_prefix
    for row in rows:
        decoded = decode_json(row.meta)
        if type(decoded) is not dict or decoded.get("phx_ref") != f"{prefix}{row.seq:x}":
            raise ValueError("not the meta of its entry")


def _rows(entries: Iterable[Entry]) -> tuple[Row, ...]:
    return tuple(
        [Row(e.topic, e.key, e.meta, e.owner, e.seq, e.hidden, e.tracker) for e in entries]
    )


def _entries(rows: Iterable[Row], ref_prefix: str) -> tuple[Entry, ...]:
    """The entries, which share the strings that many of them have."""
    return tuple(
        [
            Entry(
                intern(row.topic),
                row.key,
                row.meta,
                row.owner,
                ref_prefix,
                row.seq,
                row.hidden,
                intern(row.tracker),
            )
            for row in rows
        ]
    )
