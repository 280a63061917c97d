"""Strict JSON: what is accepted is what a browser will read, and all else is refused at once."""

import dataclasses
import datetime
import decimal
import enum
import json
import sys
import uuid
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.exceptions import PayloadError
from roost.strict_json import DECODE_ERRORS, JsonEncoder, decode_json
from tests.laws import LAW

ENCODER = JsonEncoder()

NAN, INFINITY = float("nan"), float("inf")


class Text(str):
    """A str of another type, as the safe strings of template engines are."""


class Number(int):
    """An int of another type."""


class Real(float):
    """A float of another type, as those of numpy are."""


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


class User(msgspec.Struct):
    name: str


@dataclasses.dataclass
class Box:
    content: Any


class Money:
    """Something that JSON does not know."""


def in_a_list(value: Any) -> Any:
    return [value]


def in_a_dict(value: Any) -> Any:
    return {"a": value}


atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.sampled_from(["1", "2", 1, 2, "true", "null"]) | st.text(max_size=3)


def containers(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(children, max_size=4)
    return lists | lists.map(tuple) | st.dictionaries(keys, children, max_size=4)


def json_view(value: Any) -> Any:
    """What JSON makes of a value; ValueError if there is no such thing."""
    if isinstance(value, dict):
        view = {str(key): json_view(child) for key, child in value.items()}
        if len(view) != len(value):
            raise ValueError("two keys are the same")
        return view
    if isinstance(value, list | tuple):
        return [json_view(child) for child in value]
    if isinstance(value, float) and value in (INFINITY, -INFINITY):
        raise ValueError("not a number of JSON")
    return value


def strictly(text: bytes) -> Any:
    """Read JSON by another parser than msgspec's, without Python's additions to it."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text.decode(), parse_constant=refuse)


# What is accepted.


@LAW
@given(st.recursive(atoms, containers, max_leaves=20))
def test_what_is_accepted_reads_back_as_the_json_view_of_the_value(value):
    """Encoding either gives the JSON view of the value, or refuses a value that has none."""
    try:
        expected = json_view(value)
    except ValueError:
        with pytest.raises(PayloadError):
            ENCODER.encode(value)
    else:
        assert strictly(ENCODER.encode(value)) == expected


@LAW
@given(
    st.recursive(
        atoms
        | st.sampled_from([NAN, b"x", 1j, "\ud800", {b"x": 1}, object(), Text("x"), Box(NAN)]),
        lambda children: containers(children) | children.map(Box) | st.sets(atoms, max_size=2),
        max_leaves=10,
    )
)
def test_whatever_is_given_the_result_is_json_or_a_payload_error(value):
    """Nothing but a PayloadError comes of a value that is not JSON."""
    with suppress(PayloadError):
        strictly(ENCODER.encode(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC), "2024-02-29T12:00:00Z"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (Box([1]), {"content": [1]}),
        (User("alice"), {"name": "alice"}),
        (Point(1, 2), [1, 2]),
        ({7}, [7]),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (MappingProxyType({"a": MappingProxyType({})}), {"a": {}}),
        (Text("alice"), "alice"),
        (Number(7), 7),
        (Real(1.5), 1.5),
        (msgspec.Raw(b'{"a": 1}'), {"a": 1}),
        (Box(msgspec.Raw(b'{"a": 1}')), {"content": {"a": 1}}),
        (2**70, 2**70),
    ],
)
def test_common_types_have_a_json_form(value, expected):
    """Types of every day need no hook, wherever they stand."""
    assert strictly(ENCODER.encode(value)) == expected
    assert strictly(ENCODER.encode({"list": [value]})) == {"list": [expected]}


@pytest.mark.parametrize(
    ("key", "name"),
    [(1, "1"), (1.5, "1.5"), (Color.RED, "red"), (Level.HIGH, "3"), (Text("a"), "a")],
)
def test_keys_become_strings(key, name):
    """Keys of an object may be numbers and enums; JSON has them as strings."""
    assert strictly(ENCODER.encode({key: 0})) == {name: 0}
    assert list(ENCODER.check({Color.RED: 0})) == ["red"]


def test_strict_json_passes_the_check_as_it_is():
    """The check copies nothing if there is nothing to convert."""
    payload = {"body": "hi", "floats": [1.5, -0.0], "list": [{}, (1, None)], "yes": True}

    assert ENCODER.check(payload) is payload


def test_a_shared_container_does_not_contain_itself():
    """The same list may stand in several places."""
    shared = [[1]]

    assert ENCODER.encode([shared, shared, {"again": shared}]) == b'[[[1]],[[1]],{"again":[[1]]}]'


# What is refused.


@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY])
def test_nan_and_infinity_are_refused(number):
    """NaN and infinity are refused wherever they stand, also as keys."""
    for value in (number, [number], {"a": {"b": number}}, Real(number), Box(number), {number: 1}):
        with pytest.raises(PayloadError, match=r"nan|inf"):
            ENCODER.encode(value)


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_bytes_are_refused(data):
    """Bytes are refused inside a payload and as a whole: JSON has none."""
    for value in (data, [data], {"a": {"b": data}}, Box(data), OrderedDict(a=data)):
        with pytest.raises(PayloadError, match="bytes can't be inside"):
            ENCODER.encode(value)


@pytest.mark.parametrize("key", [b"x", None, True, (1, 2), Money(), NAN, INFINITY])
def test_keys_that_are_no_names_are_refused(key):
    """A key that JSON can't have is refused by its repr."""
    with pytest.raises(PayloadError, match="can't be a key"):
        ENCODER.encode([{"a": {key: 1}}])


@pytest.mark.parametrize(
    "mapping", [{1: "a", "1": "b"}, {1.5: 0, "1.5": 0}, {Color.RED: 1, "red": 2}]
)
def test_keys_that_clash_are_refused(mapping):
    """Two keys that are the same string are refused: a client would see one of them."""
    for value in (mapping, [mapping], OrderedDict(mapping), {"a": MappingProxyType(mapping)}):
        with pytest.raises(PayloadError, match="same once they are strings"):
            ENCODER.encode(value)


def test_numbers_that_clash_inside_an_object_are_refused():
    """Clashing keys are found inside a dataclass, too."""
    with pytest.raises(PayloadError, match="same once they are strings"):
        ENCODER.encode(Box({1: "a", "1": "b"}))


@pytest.mark.parametrize("value", [object(), Money(), 1j, iter([]), msgspec.UNSET, len])
def test_objects_that_json_does_not_know_are_refused(value):
    """An unknown type is refused by its name."""
    with pytest.raises(PayloadError, match=f"can't encode {type(value).__name__} as JSON"):
        ENCODER.encode({"value": value})


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, {"a": ["\udfff"]}, [Text("\ud800")]])
def test_lone_surrogates_are_refused(value):
    """A string that is no Unicode text can't be written as UTF-8."""
    with pytest.raises(PayloadError, match="surrogates not allowed"):
        ENCODER.encode(value)


@pytest.mark.parametrize("raw", [b"", b"{", b"nan", b'"\xff"', b"{} {}", b"\xef\xbb\xbf{}"])
def test_a_raw_that_is_not_json_is_refused(raw):
    """Bytes that only claim to be JSON are checked."""
    for value in (msgspec.Raw(raw), {"a": [msgspec.Raw(raw)]}, Box(msgspec.Raw(raw))):
        with pytest.raises(PayloadError, match=r"msgspec\.Raw is not JSON"):
            ENCODER.encode(value)


def test_an_int_too_long_to_write_is_refused():
    """Python refuses to write integers of thousands of digits; so does the encoder."""
    with pytest.raises(PayloadError):
        ENCODER.encode([10**10_000])


@pytest.mark.parametrize("wrap", [in_a_list, in_a_dict, Box])
def test_what_is_nested_too_deeply_is_refused(wrap):
    """Deep nesting is refused like any other bad payload, and not by a RecursionError."""
    value: Any = 1
    for _ in range(100_000):
        value = wrap(value)

    with pytest.raises(PayloadError, match="recursion"):
        ENCODER.encode(value)


def test_what_a_client_nested_is_encoded_or_refused():
    """The echo of whatever could be decoded is encoded, or refused by a PayloadError."""
    value = None
    for depth in range(100, sys.getrecursionlimit(), 50):
        nested = b"[" * depth + b"]" * depth
        with suppress(RecursionError):
            value = decode_json(nested)
        with suppress(PayloadError):
            assert ENCODER.encode(value) == nested


# What contains itself.


class CountingList(list[Any]):
    """A list that counts how often it was looked into."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        self.looks += 1
        return super().__iter__()


def test_what_contains_itself_is_refused():
    """A list or dict inside itself is refused by name, however far inside."""
    itself: list[Any] = []
    itself.append(itself)
    ring: dict[str, Any] = {}
    ring["a"] = [({"b": ring},)]
    ordered: OrderedDict[str, Any] = OrderedDict()
    ordered["a"] = ordered

    for value, kind in ((itself, "list"), (ring, "dict"), (ordered, "OrderedDict")):
        with pytest.raises(PayloadError, match=f"a {kind} that contains itself"):
            ENCODER.encode([1, value])


def test_what_contains_itself_is_looked_into_once():
    """The refusal costs one look at each container, however often they meet themselves."""
    sibling = CountingList([[]])
    itself: list[Any] = [sibling]
    itself += [itself] * 1_000

    with pytest.raises(PayloadError, match="contains itself"):
        ENCODER.encode(itself)
    assert sibling.looks == 1


def test_an_object_that_contains_itself_is_refused():
    """A dataclass, or a hook without an end, is refused when it gets too deep."""
    box = Box(None)
    box.content = [box, box]

    with pytest.raises(PayloadError, match="recursion"):
        ENCODER.encode(box)
    with pytest.raises(PayloadError, match="recursion"):
        JsonEncoder(lambda value: [value, value]).encode(Money())


# The hook.


def test_the_hook_turns_unknown_objects_into_json():
    """The hook is asked for types that JSON does not know, and for nothing else."""
    asked: list[object] = []

    def hook(value: object) -> object:
        asked.append(value)
        return {"amount": Box(5)}

    money = Money()
    encoder = JsonEncoder(hook)

    assert encoder.encode([money, Text("a"), 1]) == b'[{"amount":{"content":5}},"a",1]'
    assert asked == [money]


@pytest.mark.parametrize("result", [NAN, b"x", [b"x"], {None: 1}, {1: 1, "1": 1}, "\ud800"])
def test_what_the_hook_returns_is_checked(result):
    """A hook can't bring in what JSON forbids."""
    with pytest.raises(PayloadError):
        JsonEncoder(lambda _: result).encode({"a": Money()})


@pytest.mark.parametrize("error", [TypeError, ValueError, NotImplementedError])
def test_a_hook_may_decline(error):
    """A hook refuses a type by raising, as msgspec's own hooks do."""

    def hook(value: object) -> object:
        raise error("not my type")

    with pytest.raises(PayloadError, match="not my type"):
        JsonEncoder(hook).encode(Money())


def test_a_bug_of_the_hook_is_not_hidden():
    """Any other error of a hook is its own."""
    with pytest.raises(ZeroDivisionError):
        JsonEncoder(lambda _: 1 / 0).encode(Money())


# Decoding.


@LAW
@given(st.binary(max_size=40) | st.text(max_size=40) | st.text('[]{},:"\\utrue01.e- ', max_size=40))
def test_decoding_raises_only_what_it_names(data):
    """Whatever arrives, decoding gives a value or raises one of DECODE_ERRORS."""
    try:
        value = decode_json(data)
    except DECODE_ERRORS:
        return
    assert strictly(ENCODER.encode(value)) == value


@pytest.mark.parametrize("data", ["NaN", '"\\ud800"', "[" * 100_000, "1e999", b'"\xff"', ""])
def test_decoding_is_strict(data):
    """NaN, lone surrogates, deep nesting, huge numbers, bad UTF-8 and nothing are refused."""
    with pytest.raises(DECODE_ERRORS):
        decode_json(data)
