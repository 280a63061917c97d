"""Partial patterns for payloads."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any
from unittest.mock import ANY

import pytest

from roost.testing import matches


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"a": ANY}, {"a": object()}),
        ({"a": None}, {"a": None}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ([], []),
        (b"\x00", b"\x00"),
        ("text", "text"),
        (1, 1.0),
    ],
)
def test_dicts_may_have_more_than_the_pattern_names(pattern: Any, value: Any):
    """Dicts may have more than the pattern names, at any depth; lists are compared as a whole."""
    assert matches(pattern, value)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({"a": 1}, {}),
        ({"a": None}, {}),
        ({"a": 1}, {"a": 2}),
        ({"a": {"b": 1}}, {"a": {"c": 1}}),
        ({"a": {"b": 1}}, {"a": 1}),
        ({}, []),
        ({}, None),
        ([1], [1, 2]),
        ([1, 2], [2, 1]),
        ([1], (1,)),
        ([1], {"0": 1}),
        ([{"a": 1}], [{"b": 1}]),
        ("text", b"text"),
        (b"\x00", b"\x00\x00"),
    ],
)
def test_what_does_not_match(pattern: Any, value: Any):
    """What the pattern names must be there and be equal."""
    assert not matches(pattern, value)
