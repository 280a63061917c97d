"""The closing handshake: Autobahn's group 7."""

import pytest

from tests.rfc6455.conftest import Subject
from tests.rfc6455.wire import CLOSE, CONT, PING, TEXT, Heard, close, frame

PROPER = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
IMPROPER = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]


async def test_a_close_is_answered_before_the_server_closes_the_connection(subject: Subject):
    """It is answered, then the server closes the connection (7.1.1)."""
    async with subject.open() as wire:
        await subject.check(wire)
        await wire.say(close(1000, b"bye"))

        assert await wire.hear() == Heard(CLOSE, b"\x03\xe8bye")
        await wire.hear_end()


async def test_an_answer_comes_before_the_close(subject: Subject):
    """What was said before the close is handled, whether or not it can be answered still."""
    async with subject.open() as wire:
        await wire.say(subject.frame("hi"), close(1000))

        assert await wire.hear_close() == 1000


@pytest.mark.parametrize("more", [close(1000), frame(PING), frame(TEXT, b"hi"), frame(CONT, b"hi")])
async def test_what_follows_a_close(subject: Subject, more: bytes):
    """It is not listened to (7.1.2 to 7.1.4)."""
    async with subject.open() as wire:
        await wire.say(close(1000), more)

        assert await wire.hear_close() == 1000


async def test_a_close_within_a_message(subject: Subject):
    """The connection ends, and the message with it (7.1.5)."""
    async with subject.open() as wire:
        await wire.say(frame(TEXT, b"hi", fin=False), close(1000), frame(CONT, b"hi"))

        assert await wire.hear_close() in (1000, 1002)


async def test_a_close_without_a_code(subject: Subject):
    """It is answered by the same (7.3.1)."""
    async with subject.open() as wire:
        await wire.say(frame(CLOSE))

        assert await wire.hear() == Heard(CLOSE, b"")
        await wire.hear_end()


async def test_half_a_code(subject: Subject):
    """1002 (7.3.2)."""
    async with subject.open() as wire:
        await wire.say(frame(CLOSE, b"\x03"))

        assert await wire.hear_close() == 1002


@pytest.mark.parametrize("size", [0, 1, 123])
async def test_the_reason_of_a_close_comes_back(subject: Subject, size: int):
    """It comes back (7.3.3 to 7.3.5)."""
    async with subject.open() as wire:
        await wire.say(close(1000, b"x" * size))

        assert await wire.hear() == Heard(CLOSE, b"\x03\xe8" + b"x" * size)


async def test_a_reason_that_is_too_long(subject: Subject):
    """1002 (7.3.6)."""
    async with subject.open() as wire:
        await wire.say(close(1000, b"x" * 124))

        assert await wire.hear_close() == 1002


async def test_a_reason_that_is_no_text(subject: Subject):
    """1007 (7.5.1)."""
    async with subject.open() as wire:
        await wire.say(close(1000, b"\xce\xba\xed\xa0\x80"))

        assert await wire.hear_close() == 1007


@pytest.mark.parametrize("code", PROPER)
async def test_proper_close_codes_come_back(subject: Subject, code: int):
    """They come back (7.7)."""
    async with subject.open() as wire:
        await wire.say(close(code))

        assert await wire.hear_close() == code


@pytest.mark.parametrize("code", IMPROPER)
async def test_improper_close_codes_are_protocol_errors(subject: Subject, code: int):
    """1002 (7.9, 7.13)."""
    async with subject.open() as wire:
        await wire.say(close(code))

        assert await wire.hear_close() == 1002


async def test_a_client_that_just_goes(subject: Subject):
    """Nothing is left behind, and others do not notice."""
    async with subject.open() as alice:
        async with subject.open() as bob:
            await bob.say(subject.frame("hi")[:3])
            bob.writer.transport.abort()

        await subject.check(alice)
