"""What may stand in a log: on its line, of a bounded size, and not for ever.

Much of what is logged was written by clients: topics, events, parameters, origins, what exceptions
quote. Every logger of roost has the filter ``LogBounds``, so that no line has to think of it: of
each argument it shows so much, with all that is not printable escaped, so that nobody forges lines
or turns text around; and of each message, by its format, it lets so many through in a while. The
first after that says how many there were.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

__all__ = ["LOGGERS", "LogBounds", "Shown", "plain", "show"]

LOGGERS: Final = (
    "roost.asgi",
    "roost.asgi.uvicorn",
    "roost.channels",
    "roost.client",
    "roost.cluster",
    "roost.presence",
    "roost.pubsub",
    "roost.tokens",
)

MAX_TEXT: Final = 500  # characters of one text
MAX_VALUE: Final = 2_000  # characters of one list, dict or other object
MAX_DEPTH: Final = 8  # deeper than any form
MAX_TRACEBACK: Final = 20_000  # characters
MAX_FORMATS: Final = 1_000  # formats that are remembered; ours are a hundred

PERIOD: Final = 60.0  # seconds
MAX_LINES: Final = 100  # of one format in that time, from WARNING on
MAX_INFO_LINES: Final = 10_000  # below: these follow the traffic

Mask = Callable[[object, Any], Any]
"""(key, value) of a dict → the value to show."""


class Shown(str):
    """A text that is fit for a log already."""

    __slots__ = ()


def show(value: object, mask: Mask | None = None) -> Shown:
    """Render a value for a log line, as ``repr`` would as far as there is room.

    It looks at no more of the value than it shows.

    Args:
        value: Anything, from anybody.
        mask: Replaces values that must not be shown.

    Example:
        >>> print(show({"topic": "room:1\\nforged", "body": "x" * 1_000_000}))  # doctest: +ELLIPSIS
        {'topic': 'room:1\\nforged', 'body': 'xxx...xxx'… (1000000 characters)}
    """
    return Shown(_Renderer(mask).render(value))


def plain(text: str, max_length: int = MAX_VALUE) -> Shown:
    """A text as it is, but on its line, and cut.

    Example:
        >>> print(plain("room:1\\nforged"))
        room:1\\nforged
    """
    return Shown(_printable(_cut(text, max_length)))


class _Renderer:
    """Render one value, within so much room and depth."""

    def __init__(self, mask: Mask | None) -> None:
        self._mask = mask
        self._room = MAX_VALUE  # characters
        self._depth = 0

    def render(self, value: object) -> str:
        if self._room <= 0:
            return "…"
        if isinstance(value, dict):
            return f"{{{self._items(value.items(), self._entry)}}}"
        if type(value) is list or type(value) is tuple:
            inner = self._items(value, self.render)
            return f"[{inner}]" if type(value) is list else f"({inner})"
        if isinstance(value, str | bytes) and len(value) > MAX_TEXT:
            unit = "characters" if isinstance(value, str) else "bytes"
            text = f"{value[:MAX_TEXT]!r}… ({len(value)} {unit})"
        else:
            text = _cut(_printable(_safely(repr, value)), MAX_VALUE)
        self._room -= len(text)
        return text

    def _entry(self, entry: tuple[object, Any]) -> str:
        key, value = entry
        if self._mask is not None:
            value = self._mask(key, value)
        return f"{self.render(key)}: {self.render(value)}"

    def _items(self, values: Iterable[Any], render: Callable[[Any], str]) -> str:
        parts = []
        self._room -= 2
        self._depth += 1
        for value in values:
            if self._room <= 0 or self._depth > MAX_DEPTH:
                parts.append("…")
                break
            parts.append(render(value))
            self._room -= 2
        self._depth -= 1
        return ", ".join(parts)


class _Foreign:
    """An argument of a log line, rendered when the line is made, if it is."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        if isinstance(self._value, dict | list | tuple):
            return show(self._value)
        is_text = isinstance(self._value, str)
        text = _safely(str, self._value)
        return plain(text, MAX_TEXT if is_text else MAX_VALUE)

    def __repr__(self) -> str:
        return show(self._value)


class LogBounds(logging.Filter):
    """The filter of roost's loggers."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[object, _Window] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; what it says is made fit for that."""
        passed_over = self._passed_over(record)
        if passed_over is None:
            return False
        arguments = record.args
        if isinstance(arguments, Mapping):  # how ``logging`` hands over a single dict
            arguments = (arguments,)
        if arguments:
            record.args = tuple(map(_fit, arguments))
        if passed_over:
            record.msg = f"{record.msg} [%d more of these were not logged]"
            record.args = (*(record.args or ()), passed_over)
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = _traceback(record.exc_info[1])
        return True

    def forget(self) -> None:
        """Begin anew, as if nothing had been logged."""
        self._windows.clear()

    def _passed_over(self, record: logging.LogRecord) -> int | None:
        """How many lines were not logged before this one; None if this one is not either."""
        key, now = record.msg, record.created
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= MAX_FORMATS:
                self._windows.clear()
            window = self._windows[key] = _Window(now)
        passed_over = 0
        if not 0 <= now - window.began_at < PERIOD:  # or the clock was put back
            passed_over = window.count - window.logged_count
            window.began_at, window.count, window.logged_count = now, 0, 0
        window.count += 1
        limit = MAX_LINES if record.levelno >= logging.WARNING else MAX_INFO_LINES
        if window.count > limit:
            return None
        window.logged_count += 1
        return passed_over


class _Window:
    __slots__ = ("began_at", "count", "logged_count")

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.count = 0
        self.logged_count = 0


def _fit(argument: object) -> object:
    if argument is None or type(argument) in (int, float, bool, Shown):
        return argument
    if type(argument) is str and len(argument) <= MAX_TEXT and argument.isprintable():
        return argument
    return _Foreign(argument)


def _traceback(error: BaseException) -> str | None:
    """The traceback, if it has to be another than ``logging`` would make."""
    text = "".join(traceback.format_exception(error)).removesuffix("\n")
    fit = text
    each: BaseException | None = error
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        message = _safely(str, each)
        if not message.isprintable():  # in it somebody may have put lines of his own
            fit = fit.replace(message, _printable(_cut(message, MAX_VALUE)))
        each = each.__cause__ or each.__context__
    if len(fit) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        fit = f"{fit[:half]}\n… ({len(fit) - 2 * half} characters)\n{fit[-half:]}"
    return None if fit == text else fit


def _safely(make: Callable[[object], str], value: object) -> str:
    try:
        return make(value)
    except Exception as error:
        return f"<{type(value).__qualname__} that raises {type(error).__qualname__}>"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


bounds: Final = LogBounds()
for _name in LOGGERS:
    logging.getLogger(_name).addFilter(bounds)
