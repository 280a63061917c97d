"""What may stand in a log."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

import roost
from roost import logs
from roost.logs import LOGGERS, LogBounds, show

PACKAGE = Path(roost.__file__).parent


class Log(logging.Handler):
    """A logger with the bounds of roost's, and a clock that stands still.

    Attributes:
        lines: What was logged, formatted.
        now: Seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.now = 1_000.0
        self.logger = logging.Logger("test")  # noqa: LOG001  # one that nobody else has
        self.logger.addFilter(self._set_clock)
        self.logger.addFilter(LogBounds())
        self.logger.addHandler(self)

    def _set_clock(self, record: logging.LogRecord) -> bool:
        record.created = self.now
        return True

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Log:
    return Log()


def test_every_logger_is_bounded():
    """No module logs past the bounds."""
    names = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r'getLogger\("(.+?)"\)', path.read_text())
    }

    assert names - {"uvicorn.error"} == set(LOGGERS)  # that one is uvicorn's
    assert all(logs.bounds in logging.getLogger(name).filters for name in LOGGERS)


@pytest.mark.parametrize("format", ["joined %s", "joined %r"])
def test_nobody_forges_lines(log: Log, format: str):
    """What is not printable is escaped, however it is logged."""
    log.logger.warning(format, "room:1\n2026-01-01 admin logged in\x1b[2K\u202e")

    (line,) = log.lines
    assert line.strip("'").removeprefix("joined ").strip("'") == (
        "room:1\\n2026-01-01 admin logged in\\x1b[2K\\u202e"
    )


def test_arguments_that_are_no_text(log: Log):
    """Objects that contain what clients sent are rendered as safely."""
    log.logger.warning("%s %r", ValueError("a\nb"), ["a\nb"])
    log.logger.warning("%r", {"a\nb": "c"})

    assert log.lines == ["a\\nb ['a\\nb']", "{'a\\nb': 'c'}"]


def test_an_argument_that_can_not_be_shown(log: Log):
    """Whatever its repr raises, the line is logged."""

    class Odd:
        def __repr__(self) -> str:
            raise LookupError

    log.logger.warning("got %r", Odd())

    assert re.fullmatch(r"got <.*Odd that raises LookupError>", log.lines[0])


@pytest.mark.parametrize(
    "value",
    ["x" * 1_000_000, b"x" * 1_000_000, ["x"] * 100_000, {str(n): [n] for n in range(100_000)}],
    ids=["str", "bytes", "list", "dict"],
)
def test_a_line_is_bounded(log: Log, value: object):
    """Whatever is logged, and however it is nested."""
    log.logger.warning("%s", value)
    log.logger.warning("%r", [[[[value] * 10] * 10] * 10] * 10)

    assert all(100 < len(line) < 3_000 for line in log.lines)


def test_nesting_is_bounded(log: Log):
    """A client nests as deep as it likes."""
    value: object = "bottom"
    for _ in range(900):
        value = [value]

    log.logger.warning("%r", (value, {"after": 1}))

    assert log.lines == ["([[[[[[[[…]]]]]]]], {'after': 1})"]


def test_only_what_is_shown_is_looked_at():
    """A megabyte of parameters costs no more than what is shown of it."""
    looked_at = []

    def mask(key: object, value: object) -> object:
        looked_at.append(key)
        return value

    show({str(number): number for number in range(100_000)}, mask)

    assert len(looked_at) < 1_000


def test_a_traceback_is_bounded(log: Log):
    """An exception may quote what it was about: on its line, and not a megabyte of it."""
    try:
        raise ValueError("bad name: \nTraceback forged\n" + "x" * 1_000_000)
    except ValueError as error:
        log.logger.error("crashed", exc_info=error)

    (line,) = log.lines
    assert line.startswith("crashed\nTraceback (most recent call last):\n")
    assert "\nTraceback forged" not in line
    assert len(line) < 21_000


def test_an_ordinary_traceback_is_left_alone(log: Log):
    """Formatters that have a form of their own for tracebacks may use it."""
    try:
        raise LookupError("missing")
    except LookupError as error:
        log.logger.error("crashed", exc_info=error)

    assert log.lines[0].endswith("LookupError: missing")


def test_the_same_again_and_again(log: Log):
    """A hundred lines a minute of a kind; the first after that says how many there were."""
    for _ in range(250):
        log.logger.warning("refused to join %r", "room:1")
    log.logger.warning("another")
    assert len(log.lines) == 101
    log.now += 61

    log.logger.warning("refused to join %r", "room:2")
    log.logger.warning("refused to join %r", "room:3")

    assert log.lines[101:] == [
        "refused to join 'room:2' [150 more of these were not logged]",
        "refused to join 'room:3'",
    ]


def test_a_clock_that_is_put_back(log: Log):
    """It silences nothing."""
    log.logger.warning("crashed")
    log.now -= 3_600
    for _ in range(100):
        log.logger.warning("crashed")

    assert len(log.lines) == 101
