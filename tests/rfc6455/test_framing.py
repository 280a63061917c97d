"""Frames, masks, reserved bits, opcodes, pings and fragments: Autobahn's groups 1 to 5, and 9."""

import itertools

import pytest

from tests.rfc6455.conftest import MAX_SIZE, Subject
from tests.rfc6455.wire import BINARY, CONT, PING, PONG, TEXT, Heard, frame

SIZES = [0, 1, 125, 126, 127, 128, 65_535, 65_536]  # around where the size is written otherwise


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_messages_of_any_size(subject: Subject, kind: str, size: int):
    """A message comes back as it was, however its size is written (1.1, 1.2)."""
    async with subject.open() as wire:
        await subject.check(wire, "*" * size if kind == "text" else b"\xfe" * size)


@pytest.mark.parametrize("chop", [1, 7, 997])
async def test_frames_that_come_in_pieces(subject: Subject, chop: int):
    """Where TCP cuts says nothing (1.1.8, 1.2.8)."""
    async with subject.open() as wire:
        await wire.say(subject.frame("*" * 5_000), chop=chop)

        assert subject.heard(await wire.hear()) == "*" * 5_000


async def test_frames_that_come_together(subject: Subject):
    """A thousand frames in one write are answered in their order."""
    async with subject.open() as wire:
        await wire.say(*(subject.frame(str(number)) for number in range(1_000)))

        answers = [subject.heard(await wire.hear()) for _ in range(1_000)]

    assert answers == [str(number) for number in range(1_000)]


async def test_a_large_message(subject: Subject):
    """Half a megabyte, whole or in fragments, comes back in one message (9.1 to 9.4)."""
    text = "*" * 500_000
    data = subject.said(text)
    pieces = [data[start : start + 64_000] for start in range(0, len(data), 64_000)]
    last = len(pieces) - 1
    async with subject.open() as wire:
        await subject.check(wire, text)
        for number, piece in enumerate(pieces):
            await wire.say(frame(CONT if number else TEXT, piece, fin=number == last))

        assert subject.heard(await wire.hear()) == text


async def test_a_message_that_is_too_large(subject: Subject):
    """It is refused with 1009 by its head, and nobody waits for the rest."""
    async with subject.open() as wire:
        await wire.say(frame(BINARY, bytes(MAX_SIZE + 1))[:100])

        assert await wire.hear_close() == 1009


async def test_a_message_that_is_too_large_in_fragments(subject: Subject):
    """Their sum counts; the client gets the close frame although it is still sending."""
    async with subject.open() as wire:
        half = bytes(MAX_SIZE // 2 + 1)
        await wire.say(frame(BINARY, half, fin=False), frame(CONT, half, fin=False))

        assert await wire.hear_close() == 1009


# Masks.


async def test_a_frame_without_a_mask(subject: Subject):
    """Clients mask: 1002."""
    async with subject.open() as wire:
        await wire.say(subject.frame("hi", mask=None))

        assert await wire.hear_close() == 1002


async def test_any_mask_will_do_even_zeros(subject: Subject):
    """Also one of zeros."""
    async with subject.open() as wire:
        for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80\x01\x7f\x00"):
            await wire.say(subject.frame("hi", mask=mask))
            assert subject.heard(await wire.hear()) == "hi"


# Pings and pongs.


@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(125)), b"\xff" * 125])
@pytest.mark.parametrize("chop", [None, 1])
async def test_a_ping_is_answered_with_its_data(subject: Subject, data: bytes, chop: int | None):
    """It is answered by a pong with its data (2.1 to 2.4, 2.6)."""
    async with subject.open() as wire:
        await wire.say(frame(PING, data), chop=chop)

        assert await wire.hear() == Heard(PONG, data)


async def test_a_ping_that_is_too_long(subject: Subject):
    """Control frames have at most 125 bytes: 1002 (2.5)."""
    async with subject.open() as wire:
        await wire.say(frame(PING, bytes(126)))

        assert await wire.hear_close() == 1002


async def test_many_pings_are_each_answered_in_order(subject: Subject):
    """Each is answered, in order (2.10, 2.11)."""
    async with subject.open() as wire:
        await wire.say(*(frame(PING, bytes([number])) for number in range(10)))

        assert [(await wire.hear()).data for _ in range(10)] == [bytes([n]) for n in range(10)]


async def test_a_pong_that_nobody_asked_for(subject: Subject):
    """It is ignored, with or without data (2.7 to 2.9)."""
    async with subject.open() as wire:
        await wire.say(frame(PONG), frame(PONG, b"hello"), frame(PING, b"x"))

        assert await wire.hear() == Heard(PONG, b"x")


# Reserved bits and opcodes.


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG])
async def test_reserved_bits_are_protocol_errors(subject: Subject, opcode: int, rsv: int):
    """None is agreed on: 1002 (3.1 to 3.7)."""
    async with subject.open() as wire:
        await wire.say(frame(opcode, b"hi", rsv=rsv))

        assert await wire.hear_close() == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("data", [b"", b"hi"])
async def test_reserved_opcodes_are_protocol_errors(subject: Subject, opcode: int, data: bytes):
    """1002 (4.1, 4.2)."""
    async with subject.open() as wire:
        await wire.say(frame(opcode, data))

        assert await wire.hear_close() == 1002


async def test_what_was_said_before_the_mistake(subject: Subject):
    """It is answered, if the answer was there; what follows is not (3.2 to 3.4, 4.1.3)."""
    async with subject.open() as wire:
        await subject.check(wire)
        await wire.say(subject.frame("bad", rsv=4), frame(PING), subject.frame("lost"))

        assert await wire.hear_close() == 1002


# Fragments.


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_control_frames_in_fragments(subject: Subject, opcode: int):
    """There is no such thing: 1002 (5.1, 5.2)."""
    async with subject.open() as wire:
        await wire.say(frame(opcode, b"hi", fin=False), frame(CONT, b"hi"))

        assert await wire.hear_close() == 1002


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("chop", [None, 1])
@pytest.mark.parametrize("cuts", [[3], [0, 5], [1, 1, 2], [2, 3, 5, 8, 13]])
async def test_fragments_make_one_message_and_pings_go_between(
    subject: Subject, kind: str, chop: int | None, cuts: list[int]
):
    """They make one message, wherever it is cut, and pings go between (5.3 to 5.8, 5.19)."""
    said: str | bytes = "fragmented text" if kind == "text" else b"fragmented bytes"
    data = subject.said(said)
    ends = [0, *cuts, len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(ends)]
    frames = []
    for number, piece in enumerate(pieces):
        opcode = CONT if number else TEXT if kind == "text" else BINARY
        frames += [frame(opcode, piece, fin=number == len(cuts)), frame(PING, bytes([number]))]
    async with subject.open() as wire:
        await wire.say(*frames, chop=chop)
        heard = [await wire.hear() for _ in range(len(pieces) + 1)]

    assert [each.data for each in heard if each.opcode == PONG] == [
        bytes([number]) for number in range(len(pieces))
    ]
    assert [subject.heard(each) for each in heard if each.opcode != PONG] == [said]


@pytest.mark.parametrize("fin", [True, False])
async def test_a_continuation_of_nothing(subject: Subject, fin: bool):
    """1002, at the start and after a whole message (5.9 to 5.14)."""
    async with subject.open() as wire:
        await subject.check(wire)
        await wire.say(frame(CONT, b"hi", fin=fin), subject.frame("hi"))

        assert await wire.hear_close() == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
async def test_a_message_within_a_message(subject: Subject, opcode: int, fin: bool):
    """1002 (5.15 to 5.18)."""
    async with subject.open() as wire:
        await wire.say(frame(TEXT, b"hi", fin=False), frame(opcode, b"hi", fin=fin))

        assert await wire.hear_close() == 1002
