"""What trackers say to each other.

Every message is a declared type of bounded size. It is encoded as a MessagePack array that begins
with the number of its kind: fields are only ever added at the end, where older nodes overlook them,
and kinds that a node does not know are skipped and counted. The heartbeat's first fields are frozen
for ever, so that nodes of all versions know of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from sys import intern
from typing import Final, TypeAlias

import msgspec

from roost.crdt.entry import Entry
from roost.crdt.origin import OriginId
from roost.crdt.slice import Range
from roost.exceptions import InvalidMessage
from roost.naming import DEFAULT_LIMITS, MAX_NAME_SIZE, RESERVED_KEYS, NameLimits, is_short
from roost.strict_json import DECODE_ERRORS, decode_json

__all__ = [
    "VERSIONS",
    "Alive",
    "Changes",
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
    "encode_message",
    "split",
]

VERSIONS: Final = (1, 1)
"""The lowest and the highest version of the messages that this node reads."""

LAST_KIND: Final = 10  # of this version
MAX_KIND: Final = 127  # what MessagePack says in one byte
MAX_INCARNATION: Final = 2**63  # half of what MessagePack can say, so that one can add to it
MAX_NODE_NAME_SIZE: Final = MAX_NAME_SIZE + 17  # bytes: a name that a node took itself has more
MAX_PART_COUNT: Final = 1_000  # entries and removals in one part
MAX_PART_SIZE: Final = 262_144  # bytes of texts and metas in one part, the last entry excluded


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
    """A part of a range or snapshot; it is applied once all parts are there.

    Args:
        start: As in ``Range``.
        end: As in ``Range``.
        index: Which part it is, from 0.
        count: How many there are.
        added: As in ``Range``.
        removed: As in ``Range``.
    """

    start: int | None
    end: int
    index: int
    count: int
    added: tuple[Row, ...]
    removed: tuple[int, ...]

    def entries(self, ref_prefix: str) -> list[Entry]:
        """The entries, which share the strings that many of them have."""
        return [
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
            for row in self.added
        ]


class Changes(_Message, frozen=True, tag=2):
    """What the sender changed, broadcast as it happens.

    Args:
        sender: Who.
        part: Of the change.
        marks: Of the numbers that it begins and ends with (``roost.tracker.path``).
    """

    sender: OriginId
    part: Part
    marks: tuple[int, int] = (0, 0)


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
    """Send me what you hold of ``origin`` beyond ``after``, whose mark is ``mark``."""

    sender: OriginId
    origin: OriginId
    after: int
    number: int
    mark: int = 0


class Transfer(_Message, frozen=True, tag=5):
    """The answer to a request; ``mark`` is that of the number at its end."""

    sender: OriginId
    origin: OriginId
    number: int
    part: Part
    mark: int = 0


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
                sound = _sound_rows(part, limits, counters)
                if sound is not part:
                    message = Changes(sender, sound)
                _check_part(sound, sender)
            case Transfer(sender, origin, number, part):
                _check_origin(origin)
                sound = _sound_rows(part, limits, counters)
                if sound is not part:
                    message = Transfer(sender, origin, number, sound)
                _check_part(sound, origin)
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


def _sound_rows(part: Part, limits: NameLimits, counters: Counter[str] | None) -> Part:
    """The part without rows whose names can't be shown to clients."""
    # A character has at most four bytes: nearly all rows pass by this, without being measured.
    topic_length, key_length = limits.max_topic_size // 4, limits.max_key_size // 4
    name_length = MAX_NAME_SIZE // 4
    sound = [
        row
        for row in part.added
        if row.key not in RESERVED_KEYS
        and (len(row.topic) <= topic_length or is_short(row.topic, limits.max_topic_size))
        and (len(row.key) <= key_length or is_short(row.key, limits.max_key_size))
        and (len(row.tracker) <= name_length or is_short(row.tracker))
    ]
    left_out_count = len(part.added) - len(sound)
    if not left_out_count:
        return part
    if counters is not None:
        counters["unsound_row"] += left_out_count
    return msgspec.structs.replace(part, added=tuple(sound))


def _check_part(part: Part, origin: OriginId) -> None:
    """Metas go to clients as they are: they must be JSON, and carry the ref of their entry."""
    prefix = origin.ref_prefix
    for row in part.added:
        decoded = decode_json(row.meta)
        if type(decoded) is not dict or decoded.get("phx_ref") != f"{prefix}{row.seq:x}":
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
            size += len(item.topic) + len(item.key) + len(item.meta)
            chunks[-1][0].append(item)
        else:
            chunks[-1][1].append(item)
    return [
        Part(
            change.start,
            change.end,
            index,
            len(chunks),
            tuple(Row(e.topic, e.key, e.meta, e.owner, e.seq, e.hidden, e.tracker) for e in added),
            tuple(removed),
        )
        for index, (added, removed) in enumerate(chunks)
    ]
