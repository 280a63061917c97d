"""The client's errors are the tree that is drawn; each makes a sentence, and can be copied."""

from __future__ import annotations

import copy
import pickle
import re

import pytest

from roost.client import exceptions
from roost.client.exceptions import (
    AlreadyJoined,
    BufferFull,
    ChannelEnded,
    ClientClosed,
    ClientError,
    ConnectFailed,
    ConnectRejected,
    JoinRejected,
    JoinTimedOut,
    MessagesDropped,
    PushInterrupted,
    PushRejected,
    PushTimedOut,
)

SENTENCES = [
    (ConnectFailed("ws://a", "refused"), "can't connect to ws://a: refused"),
    (ConnectRejected("ws://a", 403, "no"), "can't connect to ws://a: HTTP 403: no"),
    (ClientClosed(), "the client is closed: make a new one"),
    (
        AlreadyJoined("room:1"),
        "this client has a channel of 'room:1' already: use it, or leave it first",
    ),
    (JoinRejected("room:1", {"a": 1}), "the server refused the join of 'room:1': {'a': 1}"),
    (JoinTimedOut("room:1", 10.0), "the join of 'room:1' was not answered within 10 s"),
    (PushRejected("room:1", "say", "error", {}), "'say' to 'room:1' got the reply 'error': {}"),
    (PushTimedOut("room:1", "say", 0.5, True), "'say' to 'room:1' got no reply within 0.5 s"),
    (PushTimedOut("room:1", "say", 5, False), "'say' to 'room:1' could not be sent within 5 s"),
    (
        PushInterrupted("room:1", "say"),
        "'say' to 'room:1' was sent, but the channel was lost before a reply: whether it was "
        "handled is unknown",
    ),
    (
        BufferFull("room:1", 9),
        "9 messages to 'room:1' wait to be sent already: wait for client.flush(), or for the "
        "connection to come back",
    ),
    (ChannelEnded("room:1"), "the channel of 'room:1' has ended: join the topic anew"),
    (
        MessagesDropped("room:1", 3),
        "3 messages of 'room:1' were dropped: they were read too slowly",
    ),
]


@pytest.mark.parametrize(("error", "sentence"), SENTENCES)
def test_sentences_and_copies(error: ClientError, sentence: str):
    """A copy says the same, and has the same data."""
    assert str(error) == sentence
    assert getattr(error, "errno", None) is None
    for copied in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(copied) == sentence
        assert vars(copied) == vars(error)


def test_each_has_its_sentence_and_its_place():
    """All are tried above, and drawn at the top of the module with their parents."""
    names = {type(error).__name__ for error, _ in SENTENCES}
    assert names | {"ClientError"} == set(exceptions.__all__)
    drawn = re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", exceptions.__doc__ or "")
    assert {name for name, _ in drawn} == set(exceptions.__all__)
    for name, parent in drawn:
        bases = {base.__name__ for base in getattr(exceptions, name).__mro__}
        assert not parent or parent in bases, name
