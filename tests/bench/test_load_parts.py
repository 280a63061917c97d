"""Frames made and cut by hand, and the comparisons that notice whatever is missing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from bench.load.expected import FIRST_NUMBER, Lost, Stream, Template, payload
from bench.load.frames import FrameReader, ProtocolError, frame
from bench.load.rolls import Reader, Roll

SIZES = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536])


def parsed(data: bytes) -> Frame:
    """What the server's library makes of a client's frame."""
    stream = StreamReader()
    stream.feed_data(data)
    parsing = Frame.parse(stream.read_exact, mask=True)
    with pytest.raises(StopIteration) as end:
        next(parsing)
    found: Frame = end.value.value
    return found


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_servers_understand_frames_made_by_hand(size: int):
    """A mask of zeros is as good as any, and every size has its header."""
    found = parsed(frame(b"x" * size))

    assert (found.opcode, bytes(found.data), found.fin) == (Opcode.TEXT, b"x" * size, True)


@given(
    sizes=st.lists(SIZES, max_size=5),
    is_split=st.booleans(),
    cuts=st.lists(st.integers(1, 70_000), max_size=10),
)
def test_messages_are_cut_out_of_any_chunks(sizes: list[int], is_split: bool, cuts: list[int]):
    """Whatever the chunks are, and whether or not the server sends fragments."""
    texts = [b"%d" % (number % 10) * size for number, size in enumerate(sizes)]
    stream = b""
    for text in texts:
        if is_split:
            stream += Frame(Opcode.TEXT, text[:7], fin=False).serialize(mask=False)
            stream += Frame(Opcode.CONT, text[7:]).serialize(mask=False)
        else:
            stream += Frame(Opcode.TEXT, text).serialize(mask=False)
    reader, found = FrameReader(), []
    for cut in [*cuts, len(stream)]:
        chunk, stream = stream[:cut], stream[cut:]
        found += [text for _, text in reader.feed(chunk)]
    found += [text for _, text in reader.feed(stream)]

    assert found == texts
    assert reader.is_between_frames


def test_a_masked_frame_of_a_server_is_refused():
    """RFC 6455, section 5.1."""
    with pytest.raises(ProtocolError, match="masks"):
        list(FrameReader().feed(frame(b"x")))


def message(number: int) -> bytes:
    return payload(FIRST_NUMBER + number, 50)


@pytest.mark.parametrize(
    "received",
    [
        [message(1)],
        [message(0), message(2)],
        [message(0), message(0)],
        [message(1), message(0)],
        [message(0).replace(b"x", b"y")],
        [message(0), message(1), message(2), message(3)],
    ],
    ids=["late start", "lost", "doubled", "reordered", "changed", "too many"],
)
def test_anything_but_what_is_due_is_noticed(received: list[bytes]):
    """Byte by byte, whatever chunks it comes in."""
    stream = Stream(50, 2)
    for number in range(3):
        stream.expect(message(number))

    with pytest.raises(Lost):
        stream.receiver(1)(b"".join(received))


@given(st.lists(st.integers(1, 100), max_size=8))
def test_a_message_counts_once_it_is_whole(cuts: list[int]):
    """Chunks may end anywhere; a message is complete when all clients have its last byte."""
    stream = Stream(50, 2)
    due = b"".join(message(number) for number in range(3))
    for number in range(3):
        stream.expect(message(number))
    receive = stream.receiver(1)
    stream.receiver(0)(due)
    assert stream.complete_count == 0
    at = 0
    for cut in cuts:
        receive(due[at : at + cut])
        at = min(at + cut, len(due))

        assert stream.complete_count == at // 50
    assert sum(count for _, count in stream.arrived()) == 3 + at // 50
    assert list(stream.arrived()) == []
    assert stream.is_complete == (at == len(due))


def test_a_template_makes_the_message_of_any_number():
    """Of the same size, and equal to what the server would send."""
    template = Template(b"<" + message(0) + b">", FIRST_NUMBER)

    assert template.make(FIRST_NUMBER + 2) == b"<" + message(2) + b">"
    with pytest.raises(Lost):
        Template(b"nothing of it", FIRST_NUMBER)


def presences(*refs: str) -> dict[str, Any]:
    """alice under a ref is ``alice/1``."""
    found: dict[str, Any] = {}
    for ref in refs:
        key = ref.partition("/")[0]
        found.setdefault(key, {"metas": []})["metas"].append({"phx_ref": ref})
    return found


def state(*refs: str) -> bytes:
    return encoded("presence_state", presences(*refs))


def diff(joins: tuple[str, ...] = (), leaves: tuple[str, ...] = ()) -> bytes:
    return encoded("presence_diff", {"joins": presences(*joins), "leaves": presences(*leaves)})


def encoded(event: str, content: object) -> bytes:
    return msgspec.json.encode([None, None, "room:1", event, content])


def keys(roll: Roll) -> list[str]:
    return sorted(key for key, _ in roll.listed)


def test_a_list_follows_states_and_diffs():
    """As phoenix.js keeps it: a diff that comes early waits for the state."""
    roll = Roll(Reader(), "room:1", "alice")

    roll.receive(diff(joins=("carol/3",), leaves=("bob/2",)))
    assert keys(roll) == []
    roll.receive(state("alice/1", "bob/2"))
    assert keys(roll) == ["alice", "carol"]
    assert roll.is_in()
    roll.receive(diff(joins=("alice/4",), leaves=("alice/1",)))
    assert keys(roll) == ["alice", "carol"]
    roll.receive(diff(leaves=("alice/4",)))
    assert keys(roll) == ["carol"]
    assert not roll.is_in()


def test_lists_of_another_topic_are_not_ones_own():
    """A client may be in several."""
    roll = Roll(Reader(), "room:2", "alice")

    roll.receive(state("alice/1"))

    assert keys(roll) == []


def test_the_reader_counts_lists_of_the_right_size():
    """Also when one shrinks again."""
    reader = Reader()
    rolls = [Roll(reader, "room:1", name) for name in ("alice", "bob")]
    reader.aim(rolls, 2)

    rolls[0].receive(state("alice/1", "bob/2"))
    rolls[1].receive(state("alice/1"))
    assert reader.reached_count == 1
    rolls[1].receive(diff(joins=("bob/2",)))
    assert reader.reached_count == 2
    rolls[0].receive(diff(leaves=("bob/2",)))
    assert reader.reached_count == 1
    assert reader.message_count == 4


def test_a_wrong_list_is_noticed():
    """Too many, too few, or refs that another client does not have."""
    reader = Reader()
    alice, bob = (Roll(reader, "room:1", name) for name in ("alice", "bob"))
    alice.receive(state("alice/1", "bob/2"))
    bob.receive(state("alice/1", "bob/2"))
    alice.check(bob, ["alice", "bob"])

    with pytest.raises(Lost, match="exactly 1"):
        alice.check(bob, ["alice"])
    bob.receive(diff(joins=("bob/3",), leaves=("bob/2",)))
    with pytest.raises(Lost, match="different"):
        alice.check(bob, ["alice", "bob"])
