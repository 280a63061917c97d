"""What names are made of, and how what can't be one is refused."""

from __future__ import annotations

import enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.exceptions import ConfigurationError, InvalidKey, InvalidName
from roost.naming import (
    DEFAULT_LIMITS,
    RESERVED_KEYS,
    NameLimits,
    configured_name,
    is_short,
    make_name,
)


class SafeText(str):
    """Text that a template engine marked as safe: ``str`` of it is the same object."""

    def __str__(self) -> str:
        return self


class Colour(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Level(int, enum.Enum):
    HIGH = 7


@pytest.mark.parametrize("kind", ["topic", "event", "status", "key"])
@pytest.mark.parametrize("text", ["alice", "", "naïve 🐦", "null\0, escape\x1b, line\n"], ids=ascii)
def test_unicode_text_is_a_name_of_any_kind(kind: str, text: str):
    """The empty text and control characters, too: JSON and MessagePack carry them."""
    assert getattr(DEFAULT_LIMITS, kind)(text) is text


@pytest.mark.parametrize(
    ("given_name", "name"),
    [
        (SafeText("safe"), "safe"),
        (SafeText("sûr"), "sûr"),
        (Colour.RED, "red"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["topic", "event", "status", "key"])
def test_subclasses_of_str_become_plain_text(kind: str, given_name: str, name: str):
    """A text that a template engine marked is its characters, and an enum is its value."""
    made = getattr(DEFAULT_LIMITS, kind)(given_name)

    assert (made, type(made)) == (name, str)


@pytest.mark.parametrize(
    ("given_key", "key"),
    [(7, "7"), (-7, "-7"), (0, "0"), (Level.HIGH, "7"), (10**40, f"1{'0' * 40}")],
    ids=repr,
)
def test_integers_become_keys(given_key: int, key: str):
    """They are spelled in decimal digits, those of an enum as well."""
    assert DEFAULT_LIMITS.key(given_key) == key


@pytest.mark.parametrize(
    ("given_name", "sentence"),
    [
        (None, "topic: expected text, got None"),
        (True, "topic: expected text, got True: str(…) makes text of an id"),
        (7, "topic: expected text, got int: str(…) makes text of an id"),
        (UUID(int=7), "topic: expected text, got UUID: str(…) makes text of an id"),
        (b"room:1", "topic: expected text, got bytes: decode() makes text of bytes"),
        (
            {"password": "secret"},
            "topic: expected text, got dict: if this is the payload, an argument before it was "
            "left out",
        ),
        (print, "topic: expected text, got builtin_function_or_method"),
        ("a\ud800", r"topic: expected Unicode text, got a lone surrogate in 'a\ud800'"),
        (
            "é" * 513,
            "topic: expected at most 1,024 bytes of UTF-8, got 1,026: "
            "NameLimits(max_topic_size=…) of the PubSub or Endpoint sets it",
        ),
    ],
    ids=lambda each: ascii(each)[:20],
)
def test_what_is_no_name_is_refused_with_a_remedy(given_name: Any, sentence: str):
    """The error says as which argument it was given, what it is, and what to do."""
    with pytest.raises(InvalidName) as refused:
        DEFAULT_LIMITS.topic(given_name)

    assert str(refused.value) == sentence
    assert (refused.value.argument, refused.value.given) == ("topic", given_name)


@pytest.mark.parametrize(
    ("given_key", "sentence"),
    [
        ("__proto__", "'__proto__' can't be a presence key"),
        (SafeText("constructor"), "'constructor' can't be a presence key"),
        (1.5, "float can't be a presence key"),
        (True, "True can't be a presence key"),
        (UUID(int=7), "UUID can't be a presence key"),
        ("k" * 1_025, "1,025 bytes can't be a presence key: expected at most 1,024 bytes"),
        (10**1_024, "1,025 bytes can't be a presence key: expected at most 1,024 bytes"),
        (10**5_000, "an integer with more digits can't be a presence key: expected at most 1,024"),
        (-(10**5_000), "an integer with more digits can't be a presence key: expected at"),
        ("\udfff", r"a lone surrogate in '\udfff' can't be a presence key"),
    ],
    ids=lambda each: ascii(each)[-30:] if isinstance(each, str) else type(each).__name__,
)
def test_what_is_no_key_is_an_invalid_key(given_key: Any, sentence: str):
    """Names of JavaScript's object prototype are none, and numbers with several spellings."""
    with pytest.raises(InvalidKey) as refused:
        DEFAULT_LIMITS.key(given_key, "keys")

    assert str(refused.value).startswith(f"keys: {sentence}")
    assert refused.value.key == given_key
    assert "InvalidKey" in repr(refused.value)


def test_a_huge_integer_is_no_key_even_where_so_many_bytes_are_allowed():
    """Python does not spell integers of over 4,300 digits."""
    with pytest.raises(InvalidKey, match="an integer with more digits"):
        NameLimits(max_key_size=10_000).key(10**5_000)


def test_an_error_shows_little_of_what_was_given():
    """Not a megabyte, and nothing of what may be a payload."""
    for given_name in ("x" * 1_000_000, "\ud800" * 1_000_000, {"password": "secret"}, ["secret"]):
        for make in (DEFAULT_LIMITS.topic, DEFAULT_LIMITS.key):
            with pytest.raises(InvalidName) as refused:
                make(given_name)
            assert len(str(refused.value)) < 500
            assert "secret" not in str(refused.value)


class Liar:
    """It says that it is text."""

    __class__ = str  # type: ignore[assignment]


def test_what_only_says_that_it_is_text_is_refused():
    """The type counts."""
    with pytest.raises(InvalidName, match="got Liar"):
        DEFAULT_LIMITS.topic(Liar())


@pytest.mark.parametrize("kind", ["topic", "event", "status", "key"])
def test_limits_count_bytes(kind: str):
    """They are set for each kind by itself."""
    limits = NameLimits(**{f"max_{kind}_size": 64})
    make = getattr(limits, kind)

    assert make("é" * 32) == "é" * 32
    assert make("e" * 64) == "e" * 64
    for too_long in ("é" * 33, "e" * 65):
        with pytest.raises(InvalidName) as refused:
            make(too_long)
        assert refused.value.max_size == 64
        for other in {"topic", "event", "status", "key"} - {kind}:
            assert getattr(limits, other)(too_long) == too_long


@pytest.mark.parametrize("limit", [31, 65_536, 0, -1, True, 64.0, None])
def test_a_limit_that_cant_work_is_refused(limit: Any):
    """Roost's own events must fit in, and a part of a slice must hold many names."""
    with pytest.raises(ConfigurationError, match="max_key_size must be 32 to 65,535 bytes"):
        NameLimits(max_key_size=limit)


def test_the_name_of_an_option_is_refused_as_an_option():
    """What is wrong in the code is a ConfigurationError."""
    assert configured_name(SafeText("shout"), "event") == "shout"
    with pytest.raises(ConfigurationError, match="event: expected text, got int"):
        configured_name(7, "event")


@given(st.text(st.characters(codec="utf-8"), max_size=80), st.integers(32, 80))
def test_what_is_short(text: str, max_size: int):
    """It is counted in bytes of UTF-8."""
    assert is_short(text, max_size) is (len(text.encode()) <= max_size)


@given(st.text(st.characters(), max_size=80), st.sampled_from(["topic", "event", "status", "key"]))
def test_a_name_is_what_was_given_or_refused(text: str, kind: str):
    """Nothing is cut off or replaced."""
    is_sound = len(text.encode(errors="surrogatepass")) <= 64
    is_sound = is_sound and not any("\ud800" <= character <= "\udfff" for character in text)
    is_sound = is_sound and not (kind == "key" and text in RESERVED_KEYS)
    try:
        made = getattr(NameLimits(**{f"max_{kind}_size": 64}), kind)(text)
    except InvalidName:
        assert not is_sound
    else:
        assert is_sound
        assert made == text == make_name(text, kind, 64)
