"""The tree of errors is the one that is drawn, and each error makes a sentence."""

import copy
import pickle
import re

import pytest

from roost import exceptions
from roost.exceptions import (
    AdapterError,
    AlreadyTracked,
    ChannelClosed,
    ConfigurationError,
    ConnectRefused,
    FieldTooLong,
    InvalidKey,
    InvalidMessage,
    InvalidName,
    JoinRefused,
    KeysUnavailable,
    LocalProtocolError,
    MailboxFull,
    NoReplyRef,
    NotJoined,
    NotStarted,
    NotTracked,
    PayloadError,
    ProtocolError,
    RemoteProtocolError,
    ReplyError,
    RoostError,
    TermError,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TopicFull,
    UnsupportedPayload,
    WrongThread,
)

SENTENCES = [
    (RoostError("anything"), "anything"),
    (ConfigurationError("max_channels must be positive"), "max_channels must be positive"),
    (NotStarted("Online", "run the endpoint"), "Online is not running: run the endpoint"),
    (
        WrongThread("push"),
        "push was called outside the event loop's thread: use endpoint.call(…), which runs it "
        "there and returns its result, or loop.call_soon_threadsafe, or endpoint.broadcast, which "
        "works from any thread",
    ),
    (
        WrongThread("endpoint.call", is_loops=True),
        "endpoint.call was called on the event loop's thread, where it would wait for itself: "
        "await the method there, without it",
    ),
    (AdapterError("redis://db:6379", "connection refused"), "redis://db:6379: connection refused"),
    (ConnectRefused(), "connection refused"),
    (ConnectRefused("expired"), "connection refused: expired"),
    (JoinRefused({"reason": "full"}), "join refused with {'reason': 'full'}"),
    (JoinRefused(), "join refused with {}"),
    (ReplyError({"reason": "no"}), "error reply with {'reason': 'no'}"),
    (ReplyError(), "error reply with {}"),
    (TokenError("not for this"), "not for this"),
    (TokenMissing(), "there is no token"),
    (TokenInvalid("the signature is of another key"), "the signature is of another key"),
    (TokenExpired(1700000000.5), "the token has expired"),
    (
        KeysUnavailable("https://id.example.com/keys", "it answers 500"),
        "no keys from https://id.example.com/keys: it answers 500",
    ),
    (TermError("a set is no term"), "a set is no term"),
    (
        NotJoined("room:1"),
        "channel 'room:1' has not joined yet: push, reply and broadcast work from after_join on",
    ),
    (ChannelClosed("room:1"), "channel 'room:1' has ended"),
    (
        NoReplyRef("room:1"),
        "channel 'room:1' is not handling a message that has a ref to reply to: keep "
        "self.ref while its handler runs, and reply to that",
    ),
    (MailboxFull("room:1", 1000), "the mailbox of channel 'room:1' is full (1000 messages)"),
    (PayloadError("nan is not a JSON number"), "nan is not a JSON number"),
    (
        AlreadyTracked("room:1", "alice"),
        "'alice' is already tracked in 'room:1' by this owner",
    ),
    (
        TopicFull("room:1", "alice", 2),
        "'alice' can't be tracked in 'room:1', which has its 2 members: raise Policy.max_members, "
        "or let somebody leave",
    ),
    (NotTracked("room:1", "alice"), "'alice' is not tracked in 'room:1' by this owner"),
    (InvalidName("topic", 7, "text", "int"), "topic: expected text, got int"),
    (
        InvalidName("topic", b"a", "text", "bytes", remedy="decode() makes text of bytes"),
        "topic: expected text, got bytes: decode() makes text of bytes",
    ),
    (
        InvalidKey(b"a", "bytes", argument="keys"),
        "keys: bytes can't be a presence key: expected Unicode text that is no name of "
        "JavaScript's object prototype, or an integer",
    ),
    (
        InvalidKey("__proto__"),
        "'__proto__' can't be a presence key: expected Unicode text that is no name of "
        "JavaScript's object prototype, or an integer",
    ),
    (ProtocolError("anything"), "anything"),
    (LocalProtocolError("there never was a channel 7"), "there never was a channel 7"),
    (
        FieldTooLong("topic", 256),
        "topic has 256 bytes, a binary frame carries at most 255",
    ),
    (UnsupportedPayload("version 1 can't carry bytes"), "version 1 can't carry bytes"),
    (RemoteProtocolError("anything"), "anything"),
    (InvalidMessage("a JSON object"), "expected a JSON object"),
    (InvalidMessage("a JSON object", "list"), "expected a JSON object, got list"),
]


def repickled(error: RoostError) -> object:
    """What another process gets."""
    return pickle.loads(pickle.dumps(error))


def drawn_tree() -> dict[str, set[str]]:
    """Each error of the drawing with its parents: the one above it, and those in brackets."""
    tree: dict[str, set[str]] = {"RoostError": {"Exception"}}
    above = ["RoostError"]  # the names that lead to a line; a headline repeats the name above it
    for line in (exceptions.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([│ ]*)[├└]── (.+?)(?: \((\w+(?:, \w+)*)\))?(?:  .*)?", line)
        if match is None:
            continue
        depth = len(match[1]) // 4 + 1
        parent = above[depth - 1]
        is_error = hasattr(exceptions, match[2])
        above[depth:] = [match[2] if is_error else parent]
        if is_error:
            tree[match[2]] = {parent, *(match[3] or parent).split(", ")}
    return tree


def errors() -> dict[str, type[RoostError]]:
    """The errors of the module by name."""
    return {
        name: value
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, RoostError)
    }


def test_the_tree_is_the_one_that_is_drawn():
    """Each error has the parents that the drawing at the top of the module gives it."""
    real = {name: {base.__name__ for base in each.__bases__} for name, each in errors().items()}

    assert drawn_tree() == real


def test_all_errors_are_public():
    """``__all__`` names every error, and nothing else."""
    assert exceptions.__all__ == sorted(errors())


@pytest.mark.parametrize(("error", "sentence"), SENTENCES)
def test_an_error_makes_a_sentence(error, sentence):
    """``str()`` says what was expected and what came."""
    assert str(error) == sentence


@pytest.mark.parametrize(("error", "sentence"), SENTENCES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, repickled])
def test_an_error_can_be_copied(error, sentence, duplicate):
    """Task queues, and pools of processes, hand errors on: they lose nothing by it."""
    copied = duplicate(error)

    assert type(copied) is type(error)
    assert str(copied) == sentence
    assert vars(copied) == vars(error)


def test_every_error_is_among_the_sentences():
    """No error is left out of the test above."""
    assert {type(error) for error, _ in SENTENCES} == set(errors().values())


def test_errors_hold_data():
    """What a program may need to know of an error is in its attributes."""
    assert (AlreadyTracked("room:1", "alice").topic, NotTracked("room:1", "bob").key) == (
        "room:1",
        "bob",
    )
    assert (FieldTooLong("ref", 300).field, FieldTooLong("ref", 300).size) == ("ref", 300)
    assert InvalidMessage("JSON", "b'x'").close_code == 1011
    assert JoinRefused([1]).payload == [1]


def test_a_bad_token_refuses_whatever_was_asked_for():
    """A connection, a join, or an event: each of them is refused with a code for programs."""
    for error in (TokenMissing(), TokenInvalid("changed"), TokenExpired(1.0)):
        assert isinstance(error, ConnectRefused)
        assert isinstance(error, JoinRefused)
        assert isinstance(error, ReplyError)
        assert error.payload == {"reason": error.code}
        assert error.reason == str(error)
