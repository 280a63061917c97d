"""Passwords and tokens stay out of logs."""

import pytest

from roost.wire.masking import ParameterFilter


@pytest.mark.parametrize("name", ["password", "user_password", "Password", "authToken", "SECRET"])
def test_sensitive_parameters_are_masked_by_name(name):
    """A value is masked if its name contains a sensitive word, in upper or lower case."""
    assert ParameterFilter()({"a": [{name: {"x": 1}}]}) == {"a": [{name: "[FILTERED]"}]}


def test_other_parameters_are_shown():
    """The filter returns an equal copy of what it does not mask, and changes nothing."""
    params = {"name": "alice", "list": [1, ("two",)], "value": "a=b&c=d", 1: None}

    assert ParameterFilter()(params) == {**params, "list": [1, ["two"]]}
    assert params["list"] == [1, ("two",)]
    assert ParameterFilter()("password=x") == "password=x"


def test_an_application_names_its_own():
    """Names given replace the default ones."""
    assert ParameterFilter(["PIN"])({"pin": 1, "password": "x"}) == {
        "pin": "[FILTERED]",
        "password": "x",
    }


@pytest.mark.parametrize(
    ("value", "is_masked"),
    [
        ("user=alice&password=x", True),
        ("user%5Bpassword%5D=x&a=1", True),
        ("a=1;token=x", True),
        ("csrf_TOKEN=x", True),
        ("user=alice&comment=password", False),
        ("my password", False),
        ("user=alice", False),
    ],
)
def test_a_form_is_masked_as_a_whole(value, is_masked):
    """The value of a form event is masked if it may have a sensitive parameter."""
    shown = ParameterFilter()({"event": "submit", "value": value})

    assert shown == {"event": "submit", "value": "[FILTERED]" if is_masked else value}


def test_what_is_nested_deeper_than_any_form_is_not_shown():
    """The filter stops at a depth of eight: a log line is no place for more."""
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]

    assert ParameterFilter()(deep) == [[[[[[[[["…"]]]]]]]]]
