"""One connection, message by message: the tables of the wire protocol, row by row."""

from collections.abc import Sequence
from typing import Any

import pytest

from roost.channels.joins import (
    MAX_NOTICES,
    ConnectionProtocol,
    Deliver,
    Output,
    StartChannel,
    StopChannel,
    StopReason,
    Unrouted,
)
from roost.exceptions import LocalProtocolError
from roost.strict_json import JsonEncoder
from roost.wire.messages import Message, Reply
from roost.wire.serializers import V1Serializer, V2Serializer

V1, V2 = V1Serializer(JsonEncoder()), V2Serializer(JsonEncoder())

JOIN, LEAVE = "phx_join", "phx_leave"
NO_ROUTE = {"reason": "unmatched topic"}
TOO_MANY = {"reason": "too many channels joined"}
OVERLOADED = {"reason": "overloaded"}


class Connection:
    """A connection, driven by hand; each call returns what is to be done, in order."""

    def __init__(self, **limits: int) -> None:
        self.protocol = ConnectionProtocol(
            has_route=lambda topic: topic.startswith(("room:", "phoenix")), **limits
        )

    def receive(self, *fields: Any) -> Sequence[Output]:
        """The client says ``join_ref, ref, topic, event`` and maybe a payload."""
        self.protocol.receive(message(*fields))
        return self.protocol.outputs()

    def joined(self, join_ref: Any, ref: Any, topic: str) -> None:
        """The client joins a topic, which is accepted."""
        start = self.receive(join_ref, ref, topic, JOIN)[-1]
        assert isinstance(start, StartChannel)
        self.succeed(start.channel_id)

    def succeed(self, channel_id: int, response: Any = None) -> Sequence[Output]:
        self.protocol.join_succeeded(channel_id, {} if response is None else response)
        return self.protocol.outputs()

    def fail(self, channel_id: int, response: Any) -> Sequence[Output]:
        self.protocol.join_failed(channel_id, response)
        return self.protocol.outputs()

    def close(self, channel_id: int) -> Sequence[Output]:
        self.protocol.channel_closed(channel_id)
        return self.protocol.outputs()

    def crash(self, channel_id: int) -> Sequence[Output]:
        self.protocol.channel_crashed(channel_id)
        return self.protocol.outputs()

    def end(self, channel_id: int) -> Sequence[Output]:
        self.protocol.channel_ended(channel_id)
        return self.protocol.outputs()


def message(join_ref: Any, ref: Any, topic: str, event: str, payload: Any = None) -> Message:
    return Message(join_ref, ref, topic, event, {} if payload is None else payload)


def ok(join_ref: Any, ref: Any, topic: str, response: Any = None) -> Reply:
    return Reply(join_ref, ref, topic, "ok", {} if response is None else response)


def error(join_ref: Any, ref: Any, topic: str, response: Any) -> Reply:
    return Reply(join_ref, ref, topic, "error", response)


def closed(join_ref: Any, topic: str) -> Message:
    return Message(join_ref, join_ref, topic, "phx_close", {})


def crashed(join_ref: Any, topic: str) -> Message:
    return Message(join_ref, join_ref, topic, "phx_error", {"reason": "channel_crash"})


@pytest.fixture(name="connection")
def new_connection() -> Connection:
    return Connection()


@pytest.fixture(name="joined")
def new_joined() -> Connection:
    """Channel 1 is joined to room:1 with join_ref "1"."""
    connection = Connection()
    connection.joined("1", "1", "room:1")
    return connection


# The decision table (1.5), row by row.


@pytest.mark.parametrize("join_ref", [None, "1"])
def test_a_heartbeat_is_answered(connection, join_ref):
    """Row 1: a heartbeat gets ok with a null join_ref, whatever it came with."""
    outputs = connection.receive(join_ref, "7", "phoenix", "heartbeat")

    assert outputs == [ok(None, "7", "phoenix")]
    assert V2.encode(outputs[0]).text == (
        '[null,"7","phoenix","phx_reply",{"status":"ok","response":{}}]'
    )


def test_the_topic_of_heartbeats_is_otherwise_ordinary(connection):
    """Only the event heartbeat is special: the topic phoenix may be joined if it has a route."""
    assert connection.receive("1", "2", "phoenix", "shout") == [
        error(None, "2", "phoenix", NO_ROUTE)
    ]
    connection.joined("1", "1", "phoenix")

    assert connection.receive("1", "3", "phoenix", "heartbeat") == [ok(None, "3", "phoenix")]
    assert connection.receive("1", "4", "room:1", "heartbeat") == [
        error(None, "4", "room:1", NO_ROUTE)
    ]


def test_a_join_without_a_route_is_refused(connection):
    """Row 2.1: no route is an error reply with a null join_ref, and a line for the log."""
    join = message("1", "11", "zzz", JOIN)
    outputs = connection.receive("1", "11", "zzz", JOIN)

    assert outputs == [error(None, "11", "zzz", NO_ROUTE), Unrouted(join, "unmatched topic")]
    assert V2.encode(outputs[0]).text == (
        '[null,"11","zzz","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]'
    )


def test_a_join_above_the_limit_is_refused(connection):
    """Row 2.2: the hundred-and-first channel is an error reply with the request's join_ref."""
    for number in range(100):
        connection.joined("1", str(number), f"room:{number}")
    join = message("1", "5", "room:x", JOIN)
    outputs = connection.receive("1", "5", "room:x", JOIN)

    assert outputs == [
        error("1", "5", "room:x", TOO_MANY),
        Unrouted(join, "too many channels joined"),
    ]
    assert V2.encode(outputs[0]).text == (
        '["1","5","room:x","phx_reply",'
        '{"status":"error","response":{"reason":"too many channels joined"}}]'
    )


def test_a_join_starts_a_channel(connection):
    """Row 2.3: the application decides, and the join reply says how."""
    join = message("1", "2", "room:1", JOIN, {"name": "alice"})

    assert connection.receive("1", "2", "room:1", JOIN, {"name": "alice"}) == [
        StartChannel(1, join)
    ]
    assert connection.succeed(1, {"hello": "alice"}) == [ok("1", "2", "room:1", {"hello": "alice"})]


def test_a_join_may_be_refused(connection):
    """Row 2.3: a refused join is one error reply; the topic may be joined again."""
    connection.receive("1", "1", "room:1", JOIN)
    outputs = connection.fail(1, {"reason": "join crashed"})

    assert outputs == [error("1", "1", "room:1", {"reason": "join crashed"})]
    assert V2.encode(outputs[0]).text == (
        '["1","1","room:1","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]'
    )
    assert connection.receive("2", "2", "room:1", JOIN) == [
        StartChannel(2, message("2", "2", "room:1", JOIN))
    ]


def test_a_join_of_a_joined_topic_stops_the_channel(joined):
    """Row 3: a duplicate join takes the place of the channel that is there."""
    assert joined.receive("2", "2", "room:1", JOIN) == [StopChannel(1, StopReason.DUPLICATE_JOIN)]


@pytest.mark.parametrize("join_ref", [None, "1"])
def test_a_leave_goes_to_the_channel(joined, join_ref):
    """Row 4: a leave with a null join_ref or the channel's is forwarded, not answered."""
    leave = message(join_ref, "9", "room:1", LEAVE)

    assert joined.receive(join_ref, "9", "room:1", LEAVE) == [Deliver(1, leave)]


@pytest.mark.parametrize("join_ref", ["0", "", 1, True, [], "11"])
def test_a_leave_with_a_stale_join_ref_is_ignored(joined, join_ref):
    """Row 4: a leave for another channel gets no answer at all."""
    assert joined.receive(join_ref, "9", "room:1", LEAVE) == []
    assert joined.receive("1", "10", "room:1", "shout") != []


@pytest.mark.parametrize("is_leaving", [False, True])
@pytest.mark.parametrize("event", ["shout", "phx_reply", "phx_close", "presence_state", ""])
@pytest.mark.parametrize("join_ref", [None, "1"])
def test_any_other_event_goes_to_the_channel(joined, event, join_ref, is_leaving):
    """Row 5: whatever its name, an event is forwarded, also while the channel is leaving."""
    if is_leaving:
        joined.receive("1", "8", "room:1", LEAVE)

    assert joined.receive(join_ref, "9", "room:1", event) == [
        Deliver(1, message(join_ref, "9", "room:1", event))
    ]


@pytest.mark.parametrize("join_ref", ["0", "", 1, True, [], "11"])
def test_any_other_event_with_a_stale_join_ref_is_ignored(joined, join_ref):
    """Row 5: an event for another channel gets no answer at all."""
    assert joined.receive(join_ref, "9", "room:1", "shout") == []


@pytest.mark.parametrize("topic", ["room:1", "zzz"])
def test_a_leave_of_a_topic_that_is_not_joined_is_ok(connection, topic):
    """Row 6: leaving is idempotent; join_ref and ref of the request come back."""
    outputs = connection.receive("1", "9", topic, LEAVE)

    assert outputs == [ok("1", "9", topic)]


def test_the_frame_of_an_idempotent_leave(connection):
    """Row 6, to the byte."""
    (reply,) = connection.receive("1", "9", "room:x", LEAVE)

    assert V2.encode(reply).text == ('["1","9","room:x","phx_reply",{"status":"ok","response":{}}]')


@pytest.mark.parametrize("topic", ["room:1", "zzz"])
def test_an_event_for_a_topic_that_is_not_joined_is_refused(connection, topic):
    """Row 7: the error reply has a null join_ref and the request's ref; nothing is logged."""
    assert connection.receive("1", "11", topic, "shout") == [error(None, "11", topic, NO_ROUTE)]


# join_refs (1.6).


def test_a_join_without_a_join_ref_is_answered_without_one(connection):
    """A V1 client joins with a null join_ref: reply and close carry null, in both versions."""
    connection.receive(None, "23", "room:1", JOIN)
    (reply,) = connection.succeed(1)
    (close,) = connection.close(1)

    assert reply == ok(None, "23", "room:1")
    assert close == closed(None, "room:1")
    assert V1.encode(close).text == (
        '{"topic":"room:1","event":"phx_close","payload":{},"ref":null}'
    )


def test_a_join_without_a_join_ref_makes_its_own_ref_stale(connection):
    """Who joins with a null join_ref must go on sending null: the join's ref is stale."""
    connection.joined(None, "23", "room:1")

    assert connection.receive("23", "24", "room:1", "shout") == []
    assert connection.receive(None, "25", "room:1", "shout") == [
        Deliver(1, message(None, "25", "room:1", "shout"))
    ]


@pytest.mark.parametrize(
    ("join_ref", "other"), [("1", 1), (2, "2"), (1, True), (1, 1.0), (0, False), ("", 0)]
)
def test_join_refs_are_compared_strictly(connection, join_ref, other):
    """A string is no number and a number no truth value: only the same JSON is the same."""
    connection.joined(join_ref, "1", "room:1")

    assert connection.receive(other, "2", "room:1", "shout") == []
    assert len(connection.receive(join_ref, "3", "room:1", "shout")) == 1


# Duplicate join (1.8).


def test_the_wire_order_of_a_duplicate_join(joined):
    """The new join's reply comes first, then the close of the old channel."""
    join = message("2", "2", "room:1", JOIN)

    assert joined.receive("2", "2", "room:1", JOIN) == [StopChannel(1, StopReason.DUPLICATE_JOIN)]
    assert joined.end(1) == [StartChannel(2, join)]
    assert joined.succeed(2) == [ok("2", "2", "room:1"), closed("1", "room:1")]


def test_a_refused_duplicate_join_still_tells_the_end_of_the_old_channel(joined):
    """If the new join fails, its reply comes first all the same."""
    joined.receive("2", "2", "room:1", JOIN)
    joined.end(1)

    assert joined.fail(2, {"reason": "full"}) == [
        error("2", "2", "room:1", {"reason": "full"}),
        closed("1", "room:1"),
    ]


def test_a_duplicate_join_waits_until_the_old_channel_has_cleaned_up(joined):
    """There is never more than one channel for a topic."""
    joined.receive("2", "2", "room:1", JOIN)

    assert joined.receive("2", "3", "room:1", "shout") == []
    assert joined.protocol.channel_ids() == [1]


def test_messages_behind_a_duplicate_join_are_for_the_new_channel(joined):
    """What comes behind a join waits with it, in order, and is judged when its turn comes."""
    joined.receive("2", "2", "room:1", JOIN)
    joined.receive("2", "3", "room:1", "one")
    joined.receive("1", "4", "room:1", "stale")
    joined.receive(None, "5", "room:1", "two")
    joined.end(1)

    assert joined.succeed(2) == [
        ok("2", "2", "room:1"),
        closed("1", "room:1"),
        Deliver(2, message("2", "3", "room:1", "one")),
        Deliver(2, message(None, "5", "room:1", "two")),
    ]


def test_a_duplicate_join_at_the_limit_keeps_its_place():
    """The channel that goes makes room for the one that comes."""
    connection = Connection(max_channels=1)
    connection.joined("1", "1", "room:1")
    connection.receive("2", "2", "room:1", JOIN)
    assert connection.receive("1", "3", "room:2", JOIN)[0] == error("1", "3", "room:2", TOO_MANY)

    assert connection.end(1) == [StartChannel(2, message("2", "2", "room:1", JOIN))]


def test_three_joins_in_a_row(joined):
    """A join that waits is overtaken by a newer one: each has its end told once."""
    joined.receive("2", "2", "room:1", JOIN)
    joined.receive("3", "3", "room:1", JOIN)

    assert joined.end(1) == [
        StartChannel(2, message("2", "2", "room:1", JOIN)),
        StopChannel(2, StopReason.DUPLICATE_JOIN),
    ]
    assert joined.end(2) == [StartChannel(3, message("3", "3", "room:1", JOIN))]
    assert joined.succeed(3) == [
        ok("3", "3", "room:1"),
        closed("1", "room:1"),
        closed("2", "room:1"),
    ]


def test_the_notices_behind_a_join_are_bounded(connection):
    """Joins that cancel each other without end are told of the oldest ends at once."""
    told: list[Output] = []
    connection.receive("0", "0", "room:1", JOIN)
    for number in range(1, 50):
        connection.receive(str(number), str(number), "room:1", JOIN)
        told += [each for each in connection.end(number) if isinstance(each, Message)]

    assert told == [closed(str(number), "room:1") for number in range(49 - MAX_NOTICES)]
    assert connection.succeed(50) == [
        ok("49", "49", "room:1"),
        *(closed(str(number), "room:1") for number in range(49 - MAX_NOTICES, 49)),
    ]


# Joining: the application takes its time.


def test_other_topics_and_heartbeats_do_not_wait_for_a_join(connection):
    """A join that takes a minute holds up its own topic only."""
    connection.receive("1", "1", "room:1", JOIN)

    assert connection.receive(None, "2", "phoenix", "heartbeat") == [ok(None, "2", "phoenix")]
    assert connection.receive("3", "3", "room:2", JOIN) == [
        StartChannel(2, message("3", "3", "room:2", JOIN))
    ]
    assert connection.succeed(2) == [ok("3", "3", "room:2")]


def test_messages_wait_behind_a_join_in_order(connection):
    """What waited is delivered after the join's reply; a stale message is dropped then."""
    connection.receive("1", "1", "room:1", JOIN)
    for ref, join_ref in (("2", "1"), ("3", None), ("4", "0"), ("5", "1")):
        assert connection.receive(join_ref, ref, "room:1", "shout") == []

    assert connection.succeed(1) == [
        ok("1", "1", "room:1"),
        Deliver(1, message("1", "2", "room:1", "shout")),
        Deliver(1, message(None, "3", "room:1", "shout")),
        Deliver(1, message("1", "5", "room:1", "shout")),
    ]


def test_messages_behind_a_refused_join_are_judged_without_it(connection):
    """If the join fails, what waited behind it is for a topic that is not joined."""
    connection.receive("1", "1", "room:1", JOIN)
    connection.receive("1", "2", "room:1", "shout")
    connection.receive("0", "3", "room:1", "stale")
    connection.receive("0", "4", "room:1", LEAVE)

    assert connection.fail(1, {"reason": "full"}) == [
        error("1", "1", "room:1", {"reason": "full"}),
        error(None, "2", "room:1", NO_ROUTE),
        error(None, "3", "room:1", NO_ROUTE),
        ok("0", "4", "room:1"),
    ]


def test_the_waiting_line_is_bounded():
    """A full waiting line answers overloaded; what waited keeps its place."""
    connection = Connection(max_waiting=2)
    connection.receive("1", "1", "room:1", JOIN)
    connection.receive("1", "2", "room:1", "one")
    connection.receive("1", "3", "room:1", "two")

    assert connection.receive("1", "4", "room:1", "three") == [
        error("1", "4", "room:1", OVERLOADED)
    ]
    assert connection.succeed(1) == [
        ok("1", "1", "room:1"),
        Deliver(1, message("1", "2", "room:1", "one")),
        Deliver(1, message("1", "3", "room:1", "two")),
    ]


def test_a_join_that_finds_the_line_full_still_takes_the_place():
    """A newer join cancels the old one even if there is no room for it: the client tries again."""
    connection = Connection(max_waiting=1)
    connection.receive("1", "1", "room:1", JOIN)
    connection.receive("1", "2", "room:1", "one")

    assert connection.receive("3", "3", "room:1", JOIN) == [
        StopChannel(1, StopReason.DUPLICATE_JOIN),
        error("3", "3", "room:1", OVERLOADED),
    ]
    assert connection.end(1) == [error(None, "2", "room:1", NO_ROUTE), closed("1", "room:1")]


def test_the_default_line_holds_a_thousand(connection):
    """A client that sends without end behind a slow join can't fill the memory."""
    connection.receive("1", "1", "room:1", JOIN)
    answers = [connection.receive("1", str(ref), "room:1", "shout") for ref in range(1_001)]

    assert answers[:1_000] == [[]] * 1_000
    assert answers[1_000] == [error("1", "1000", "room:1", OVERLOADED)]


@pytest.mark.parametrize("join_ref", [None, "1"])
def test_a_leave_cancels_a_join(connection, join_ref):
    """A client that gives up on a join has it cancelled, cleaned up, and is told so."""
    connection.receive("1", "1", "room:1", JOIN)

    assert connection.receive(join_ref, "2", "room:1", LEAVE) == [StopChannel(1, StopReason.LEFT)]
    assert connection.succeed(1) == []
    assert connection.end(1) == [ok("1", "2", "room:1"), closed("1", "room:1")]
    assert connection.protocol.channel_ids() == []


def test_a_stale_leave_does_not_cancel_a_join(connection):
    """A leave of an earlier channel waits, and is dropped when the new one is joined."""
    connection.receive("1", "1", "room:1", JOIN)

    assert connection.receive("0", "2", "room:1", LEAVE) == []
    assert connection.succeed(1) == [ok("1", "1", "room:1")]


def test_a_newer_join_cancels_a_join(connection):
    """A client that joins again before it was answered gets the answer to its last join."""
    connection.receive("1", "1", "room:1", JOIN)

    assert connection.receive("2", "2", "room:1", JOIN) == [
        StopChannel(1, StopReason.DUPLICATE_JOIN)
    ]
    assert connection.fail(1, {"reason": "too late"}) == []
    assert connection.end(1) == [StartChannel(2, message("2", "2", "room:1", JOIN))]
    assert connection.succeed(2) == [ok("2", "2", "room:1"), closed("1", "room:1")]


def test_join_leave_join_in_one_burst(connection):
    """The first join is cancelled, its leave is answered, and the second join starts then."""
    connection.receive("1", "1", "room:1", JOIN)
    connection.receive("1", "2", "room:1", LEAVE)
    assert connection.receive("3", "3", "room:1", JOIN) == []

    assert connection.end(1) == [
        ok("1", "2", "room:1"),
        closed("1", "room:1"),
        StartChannel(2, message("3", "3", "room:1", JOIN)),
    ]
    assert connection.succeed(2) == [ok("3", "3", "room:1")]


def test_a_cancelled_join_tells_the_ends_before_it(joined):
    """A leave of a duplicate join tells the old channel's end and then its own."""
    joined.receive("2", "2", "room:1", JOIN)
    joined.end(1)
    joined.receive("2", "3", "room:1", LEAVE)

    assert joined.end(2) == [
        ok("2", "3", "room:1"),
        closed("1", "room:1"),
        closed("2", "room:1"),
    ]


def test_a_leave_behind_a_waiting_join_cancels_it(joined):
    """A join may be left before its turn has come."""
    joined.receive("2", "2", "room:1", JOIN)
    assert joined.receive("2", "3", "room:1", LEAVE) == []

    assert joined.end(1) == [
        StartChannel(2, message("2", "2", "room:1", JOIN)),
        StopChannel(2, StopReason.LEFT),
    ]


# Endings (1.9).


def test_a_leave_that_the_channel_answered(joined):
    """Reply, close, and then the pushes of terminate: the topic counts as not joined by then."""
    joined.receive("1", "2", "room:1", LEAVE)

    assert joined.close(1) == [closed("1", "room:1")]
    assert joined.receive("1", "3", "room:1", "shout") == [error(None, "3", "room:1", NO_ROUTE)]
    assert joined.receive("1", "4", "room:1", LEAVE) == [ok("1", "4", "room:1")]
    assert joined.end(1) == []


def test_a_leave_then_a_join(joined):
    """The leave is answered before the join, where Phoenix lets the join's reply overtake."""
    joined.receive("1", "6", "room:1", LEAVE)
    assert joined.receive("7", "7", "room:1", JOIN) == [StopChannel(1, StopReason.LEFT)]

    assert joined.end(1) == [
        ok("1", "6", "room:1"),
        closed("1", "room:1"),
        StartChannel(2, message("7", "7", "room:1", JOIN)),
    ]
    assert joined.succeed(2) == [ok("7", "7", "room:1")]


def test_two_leaves_then_a_join(joined):
    """Only the first leave is forwarded, and it is the one that is answered for the channel."""
    joined.receive("1", "5", "room:1", LEAVE)
    assert joined.receive("1", "6", "room:1", LEAVE) == []
    joined.receive("7", "7", "room:1", JOIN)

    assert joined.end(1)[0] == ok("1", "5", "room:1")


def test_a_join_after_the_channel_closed_waits_for_its_cleanup(joined):
    """A graceful end is told at once; a new join starts when the channel has cleaned up."""
    joined.receive("1", "2", "room:1", LEAVE)
    joined.close(1)

    assert joined.receive("3", "3", "room:1", JOIN) == []
    assert joined.receive("3", "4", "room:1", "shout") == []
    assert joined.end(1) == [StartChannel(2, message("3", "3", "room:1", JOIN))]
    assert joined.succeed(2) == [
        ok("3", "3", "room:1"),
        Deliver(2, message("3", "4", "room:1", "shout")),
    ]


@pytest.mark.parametrize("is_leaving", [False, True])
def test_a_crash_is_told(joined, is_leaving):
    """A channel that crashes is gone with phx_error, in both places its join_ref."""
    if is_leaving:
        joined.receive("1", "2", "room:1", LEAVE)
    outputs = joined.crash(1)

    assert outputs == [crashed("1", "room:1")]
    assert V2.encode(outputs[0]).text == (
        '["1","1","room:1","phx_error",{"reason":"channel_crash"}]'
    )
    assert joined.protocol.channel_ids() == []


def test_the_frame_of_a_graceful_end(joined):
    """phx_close, to the byte."""
    (close,) = joined.close(1)

    assert V2.encode(close).text == '["1","1","room:1","phx_close",{}]'


def test_an_end_without_a_word_is_a_crash(joined):
    """A channel that ends without announcing it is told with phx_error, as in Phoenix."""
    assert joined.end(1) == [crashed("1", "room:1")]
    assert joined.protocol.channel_ids() == []


def test_a_crash_of_a_stopped_channel_is_its_end(joined):
    """Whoever is stopped for a newer join has a close, however it ends."""
    joined.receive("2", "2", "room:1", JOIN)
    joined.crash(1)

    assert joined.succeed(2) == [ok("2", "2", "room:1"), closed("1", "room:1")]


def test_a_stopped_channel_that_closes_by_itself_is_told_once(joined):
    """A graceful end that crosses a newer join is told in its place, behind the join's reply."""
    joined.receive("2", "2", "room:1", JOIN)

    assert joined.close(1) == []
    assert joined.end(1) == [StartChannel(2, message("2", "2", "room:1", JOIN))]
    assert joined.succeed(2) == [ok("2", "2", "room:1"), closed("1", "room:1")]


def test_a_crash_while_cleaning_up_is_told_no_more(joined):
    """The client was told of a graceful end: one end is enough."""
    joined.close(1)

    assert joined.crash(1) == []
    assert joined.protocol.channel_ids() == []


def test_reports_of_a_channel_that_is_gone_are_ignored(joined):
    """A late report of a channel changes nothing, also if the topic has a new one."""
    joined.crash(1)
    joined.joined("2", "2", "room:1")

    for report in (joined.succeed, joined.close, joined.crash, joined.end):
        assert report(1) == []
    assert joined.fail(1, {}) == []
    assert joined.protocol.channel_ids() == [2]


@pytest.mark.parametrize("channel_id", [0, -1, 2])
def test_a_channel_that_never_was_is_a_bug(joined, channel_id):
    """A report of an unknown channel is an error of the caller."""
    with pytest.raises(LocalProtocolError, match=f"never was a channel {channel_id}"):
        joined.end(channel_id)


# The limit.


def test_joins_being_decided_count_towards_the_limit():
    """A client can't get around the limit by joining before it is answered."""
    connection = Connection(max_channels=2)
    connection.receive("1", "1", "room:1", JOIN)
    connection.receive("1", "2", "room:2", JOIN)

    assert connection.receive("1", "3", "room:3", JOIN)[0] == error("1", "3", "room:3", TOO_MANY)


def test_channels_cleaning_up_count_towards_the_limit():
    """A client can't pile up channels that clean up slowly either."""
    connection = Connection(max_channels=1)
    connection.joined("1", "1", "room:1")
    connection.close(1)
    assert connection.receive("2", "2", "room:2", JOIN)[0] == error("2", "2", "room:2", TOO_MANY)

    connection.end(1)
    assert connection.receive("3", "3", "room:2", JOIN) == [
        StartChannel(2, message("3", "3", "room:2", JOIN))
    ]


@pytest.mark.parametrize("how", ["fail", "crash", "leave", "cancel"])
def test_a_channel_that_ended_makes_room(how):
    """However a channel ends, another may be joined in its place."""
    connection = Connection(max_channels=1)
    connection.receive("1", "1", "room:1", JOIN)
    match how:
        case "fail":
            connection.fail(1, {})
        case "crash":
            connection.succeed(1)
            connection.crash(1)
        case "leave":
            connection.succeed(1)
            connection.close(1)
            connection.end(1)
        case "cancel":
            connection.receive("1", "2", "room:1", LEAVE)
            connection.end(1)

    assert connection.receive("3", "3", "room:2", JOIN) == [
        StartChannel(2, message("3", "3", "room:2", JOIN))
    ]


def test_outputs_are_handed_over_once(connection):
    """What was handed over is forgotten."""
    assert len(connection.receive("1", "1", "room:1", JOIN)) == 1
    assert connection.protocol.outputs() == []
