"""Messages: made of what was decoded, and shown without secrets."""

import pytest

from roost.exceptions import InvalidMessage
from roost.wire.messages import Message


def submitted(value: str) -> Message:
    """A form event as LiveView sends it."""
    payload = {"event": "submit", "type": "form", "value": value}
    return Message("1", "2", "lv:1", "event", payload)


@pytest.mark.conforms("MSG-1")
def test_a_form_with_a_password_is_shown_without_its_value():
    """The repr of a form event masks the whole value if it has a password."""
    shown = repr(submitted("password=secret123&username=alice"))

    assert "'value': '[FILTERED]'" in shown
    assert "secret123" not in shown
    assert "alice" not in shown


@pytest.mark.conforms("MSG-2")
def test_a_form_with_a_password_at_its_end_is_shown_without_its_value():
    """The repr masks the value wherever in it the password stands."""
    shown = repr(submitted("username=alice&password=secret123"))

    assert "'value': '[FILTERED]'" in shown
    assert "secret123" not in shown


@pytest.mark.conforms("MSG-3")
@pytest.mark.parametrize(
    "value", ["&password=%secret", "a&&=%zz;password=secret", "%password==secret"]
)
def test_a_malformed_form_with_a_password_is_shown_without_its_value(value):
    """The repr masks the value even if it is no proper query string."""
    shown = repr(submitted(value))

    assert "'value': '[FILTERED]'" in shown
    assert "secret" not in shown


def test_the_repr_shows_everything_else():
    """Messages are shown with all their fields."""
    message = Message("1", None, "room:1", "new_msg", {"body": "hi", "password": "x"})

    assert repr(message) == (
        "Message(join_ref='1', ref=None, topic='room:1', event='new_msg', "
        "payload={'body': 'hi', 'password': '[FILTERED]'})"
    )


@pytest.mark.parametrize("name", ["topic", "event", "payload", "ref"])
def test_a_map_without_a_required_key_is_no_message(name):
    """The error names the missing key."""
    fields = {"topic": "room:1", "event": "e", "payload": {}, "ref": "1"}
    del fields[name]

    with pytest.raises(InvalidMessage, match=f"an object with the key '{name}'"):
        Message.from_map(fields)


def test_a_map_may_have_more_keys():
    """A join_ref is taken if there is one, other keys are ignored."""
    fields = {"topic": "room:1", "event": "e", "payload": [1], "ref": 7, "more": 1}

    assert Message.from_map(fields) == Message(None, 7, "room:1", "e", [1])
    assert Message.from_map({**fields, "join_ref": "3"}).join_ref == "3"


@pytest.mark.parametrize("name", ["topic", "event"])
@pytest.mark.parametrize("value", [None, 1, [], {}])
def test_topic_and_event_are_strings(name, value):
    """The error names the field and what it is."""
    fields = {"topic": "room:1", "event": "e", "payload": {}, "ref": "1", name: value}

    with pytest.raises(InvalidMessage, match=f"{name} to be a string, got {type(value).__name__}"):
        Message.from_map(fields)
