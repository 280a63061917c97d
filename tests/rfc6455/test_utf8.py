"""Text is UTF-8, wherever it is cut: Autobahn's group 6."""

import itertools

import pytest

from tests.rfc6455.conftest import Subject
from tests.rfc6455.wire import CONT, PING, PONG, TEXT, Heard, frame

VALID = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\u0080\u07ff\u0800\uffff\U00010000\U0010ffff",  # the first and last of each length
    "\ud7ff\ue000\ufffd",  # around the surrogates
    "\ufdd0\ufffe\uffff\U0001fffe",  # noncharacters are characters on the wire
    "👩‍👩‍👧",
]

INVALID = [
    pytest.param(b"\x80", id="lonely continuation"),
    pytest.param(b"\xbf\x80", id="two lonely continuations"),
    pytest.param(b"\xc3(", id="start without continuation"),
    pytest.param(b"\xe2\x82(", id="three bytes, the last is none"),
    pytest.param(b"\xfe", id="never a byte of UTF-8"),
    pytest.param(b"\xff", id="never a byte of UTF-8 either"),
    pytest.param(b"\xc0\xaf", id="two bytes for one"),
    pytest.param(b"\xe0\x80\xaf", id="three bytes for one"),
    pytest.param(b"\xf0\x80\x80\xaf", id="four bytes for one"),
    pytest.param(b"\xed\xa0\x80", id="a surrogate"),
    pytest.param(b"\xed\xa0\x80\xed\xb0\x80", id="a pair of surrogates"),
    pytest.param(b"\xf4\x90\x80\x80", id="above U+10FFFF"),
    pytest.param(b"\xf8\x88\x80\x80\x80", id="five bytes"),
]


@pytest.mark.parametrize("text", VALID)
async def test_all_unicode_comes_back(subject: Subject, text: str):
    """Whatever Unicode there is comes back (6.2, 6.5 to 6.7, 6.9, 6.22, 6.23)."""
    async with subject.open() as wire:
        await subject.check(wire, text)


@pytest.mark.parametrize("text", VALID)
async def test_text_that_is_cut_within_characters(subject: Subject, text: str):
    """Fragments of one byte each are one text in the end (6.2.3, 6.2.4)."""
    data = subject.said(text)
    async with subject.open() as wire:
        await wire.say(
            *(
                frame(CONT if number else TEXT, bytes([byte]), fin=number == len(data) - 1)
                for number, byte in enumerate(data)
            )
        )

        assert subject.heard(await wire.hear()) == text


@pytest.mark.parametrize("bad", INVALID)
async def test_text_that_is_no_text(subject: Subject, bad: bytes):
    """1007 (6.3, 6.8, 6.10 to 6.21)."""
    before, after = subject.said("|").split(b"|")
    async with subject.open() as wire:
        await wire.say(frame(TEXT, before + bad + after), frame(PING))

        assert await wire.hear_close() == 1007


@pytest.mark.parametrize("bad", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x91"])
async def test_text_that_ends_within_a_character(subject: Subject, bad: bytes):
    """1007, in one frame and at the end of the last fragment."""
    for frames in ([frame(TEXT, b"a" + bad)], [frame(TEXT, b"a", fin=False), frame(CONT, bad)]):
        async with subject.open() as wire:
            await wire.say(*frames)

            assert await wire.hear_close() == 1007


@pytest.mark.parametrize("bad", INVALID)
async def test_bad_text_fails_with_its_fragment(subject: Subject, bad: bytes):
    """Nobody waits for the end of a message that is no text already (6.4.1, 6.4.2).

    It fails with the frame, not with the byte: frames are read whole.
    """
    first = subject.said("κόσμε").partition("μ".encode())[0]
    async with subject.open() as wire:
        await wire.say(frame(TEXT, first, fin=False), frame(PING))
        assert await wire.hear() == Heard(PONG, b"")

        await wire.say(frame(CONT, bad + b"x", fin=False))

        assert await wire.hear_close() == 1007


async def test_binary_may_be_anything(subject: Subject):
    """Bytes are not looked at, in fragments either."""
    every = bytes(range(256))
    async with subject.open() as wire:
        await subject.check(wire, every)
        data = subject.said(every)
        pieces = [data[start:end] for start, end in itertools.pairwise([0, 40, 200, len(data)])]
        await wire.say(
            frame(0x2, pieces[0], fin=False),
            frame(CONT, pieces[1], fin=False),
            frame(CONT, pieces[2]),
        )

        assert subject.heard(await wire.hear()) == every
