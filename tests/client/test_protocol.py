"""The connection of a client: back-off, heartbeats, sleep, refusals; on a clock of the test."""

from __future__ import annotations

from random import Random

import pytest

from roost.client.events import Connect, Disconnect, Malformed, Replied, StateChanged
from roost.client.exceptions import ConnectFailed, ConnectRejected
from roost.client.membership import Ended
from roost.client.options import RECONNECT_DELAYS, REJOIN_DELAYS, Options, delay_of
from roost.exceptions import ConfigurationError
from tests.client.scene import Scene

FAILED = ConnectFailed("ws://a", "refused")
FORBIDDEN = ConnectRejected("ws://a", 403)


def wait_for_attempt(scene: Scene) -> float:
    """Let time pass until the next attempt to connect; return how long it took."""
    began_at = scene.now
    assert scene.state(scene.protocol) == "waiting"
    while scene.state(scene.protocol) == "waiting":
        at = scene.protocol.next_timer()
        assert at is not None
        scene.advance(at - scene.now)
    return round(scene.now - began_at, 6)


# Back-off.


def test_attempts_come_later_and_later():
    """The delays are those of phoenix.js, and the last one goes on for ever."""
    scene = Scene()
    scene.protocol.connect()
    delays = []
    for _ in range(12):
        scene.protocol.connection_failed(FAILED, scene.now)
        delays.append(wait_for_attempt(scene))

    assert delays == [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    assert len(scene.take(Connect)) == 13


def test_each_attempt_is_one():
    """Nothing else is tried while an attempt is under way."""
    scene = Scene()
    scene.protocol.connect()
    scene.advance(1_000)

    assert len(scene.take(Connect)) == 1


def test_a_connection_that_lasted_is_followed_by_the_first_delay():
    """A server that accepts and closes at once is tried later and later all the same."""
    scene = Scene().connected()
    delays = []
    for lasted in (0, 0, 9.9, 10, 0):
        scene.advance(lasted)
        scene.lose()
        delays.append(wait_for_attempt(scene))
        scene.connected()

    assert delays == [0.01, 0.05, 0.1, 0.01, 0.05]


@pytest.mark.parametrize("delays", [RECONNECT_DELAYS, REJOIN_DELAYS])
def test_delays_differ_from_client_to_client(delays: tuple[float, ...]):
    """Each is up to a half longer or shorter, so that a thousand clients spread."""
    for tries, delay in enumerate(delays, 1):
        drawn = [delay_of(tries, delays, 0.5, Random(seed)) for seed in range(1_000)]
        assert min(drawn) < 0.55 * delay
        assert max(drawn) > 1.45 * delay
        assert all(0.5 * delay <= each <= 1.5 * delay for each in drawn)


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_interval": 0},
        {"reconnect_delays": ()},
        {"rejoin_delays": (-1.0,)},
        {"jitter": 1.5},
        {"max_refusals": 0},
        {"max_buffer_count": 0},
    ],
    ids=str,
)
def test_options_that_cannot_work(options: dict[str, object]):
    """They are refused where they are given."""
    with pytest.raises(ConfigurationError):
        Options(**options)  # type: ignore[arg-type]


# Heartbeats.


def test_a_heartbeat_at_each_interval():
    """It is sent on the topic phoenix, and the next one an interval after the reply."""
    scene = Scene().connected()
    scene.advance(24.9)
    assert scene.sent() == []
    scene.advance(0.1)
    assert scene.sent() == [(None, "1", "phoenix", "heartbeat", {})]
    scene.advance(4)
    scene.reply("1", topic="phoenix")
    scene.advance(24.9)
    assert scene.sent() == []
    scene.advance(0.1)
    assert scene.sent() == [(None, "2", "phoenix", "heartbeat", {})]


def test_a_heartbeat_without_a_reply_ends_the_connection():
    """A proxy that drops everything silently is noticed, and the connection is not waited for."""
    scene = Scene().connected()
    scene.advance(25 + 9.9)
    assert scene.state(scene.protocol) == "open"

    scene.advance(0.1)

    assert scene.take(Disconnect) == [Disconnect(is_dead=True)]
    assert scene.state(scene.protocol) == "waiting"
    wait_for_attempt(scene)
    scene.connected()
    scene.advance(24)
    assert scene.state(scene.protocol) == "open"


def test_a_late_reply_to_a_heartbeat_of_an_earlier_connection():
    """It says nothing of the present one."""
    scene = Scene().connected()
    scene.advance(25)
    scene.sent()
    scene.lose()
    wait_for_attempt(scene)
    scene.connected()
    scene.advance(25)
    assert scene.sent() == [(None, "2", "phoenix", "heartbeat", {})]

    scene.reply("1", topic="phoenix")
    scene.advance(10)

    assert scene.state(scene.protocol) == "waiting"


def test_a_heartbeat_goes_before_what_waits():
    """A slow connection is not taken for a dead one because much waits for it."""
    scene = Scene().connected()
    room = scene.joined()
    for _ in range(3):
        scene.push(room, timeout=None)
    scene.advance(25)

    assert [event for *_, event, _ in scene.sent()] == ["heartbeat", "shout", "shout", "shout"]


# Sleep.


def test_a_sleep_is_followed_by_a_probe():
    """Deadlines that passed in a sleep do not count; the connection is asked at once."""
    scene = Scene().connected()
    room = scene.joined()
    push = scene.push(room)
    scene.sent()

    scene.sleep(3_600)

    assert scene.state(scene.protocol) == "open"
    assert scene.sent() == [(None, "3", "phoenix", "heartbeat", {})]
    scene.reply(push.ref)
    assert scene.take(Replied) == [Replied(push, {})]
    scene.advance(10)  # no reply to the probe
    assert scene.take(Disconnect) == [Disconnect(is_dead=True)]


def test_a_sleep_that_the_connection_survived():
    """With a reply to the probe everything goes on."""
    scene = Scene().connected()
    scene.sleep(90)
    ((_, ref, *_),) = scene.sent()
    scene.reply(ref, topic="phoenix")
    scene.advance(24)

    assert scene.state(scene.protocol) == "open"
    assert scene.take(Disconnect) == []


def test_a_sleep_is_noticed_within_seconds():
    """On a clock that goes on while the machine sleeps: the timers stand still meanwhile."""
    scene = Scene().connected()
    scene.advance(12)
    at = scene.protocol.next_timer()
    assert at is not None

    assert at - scene.now <= 5


def test_after_a_sleep_it_connects_at_once():
    """Whoever opens the laptop does not wait for the delay to run out."""
    scene = Scene(reconnect_delays=(600.0,)).connected()
    room = scene.joined()
    scene.lose()
    scene.push(room, timeout=10)  # what wakes it up
    scene.take(Connect)

    scene.sleep(300)

    assert len(scene.take(Connect)) == 1


# Refusals, and the end.


def test_the_first_handshake_that_is_refused_ends_the_client():
    """A wrong token is told at once."""
    scene = Scene()
    scene.protocol.connect()
    scene.protocol.connection_failed(FORBIDDEN, scene.now)

    assert scene.take(StateChanged)[-1] == StateChanged("closed", "", FORBIDDEN)
    assert scene.protocol.next_timer() is None


def test_later_handshakes_may_be_refused_a_few_times():
    """The fifth refusal in a row ends the client, and with it its channels."""
    scene = Scene().connected()
    room = scene.joined()
    scene.lose()
    for _ in range(4):
        wait_for_attempt(scene)
        scene.protocol.connection_failed(FORBIDDEN, scene.now)
    wait_for_attempt(scene)
    assert scene.take(Ended) == []

    scene.protocol.connection_failed(FORBIDDEN, scene.now)

    assert scene.state(scene.protocol) == "closed"
    assert scene.take(Ended) == [Ended(room, FORBIDDEN, 0)]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_a_server_in_trouble_is_tried_for_ever(status: int):
    """Only a 4xx that means no is a refusal."""
    scene = Scene(max_refusals=1).connected()
    scene.lose()
    for _ in range(50):
        wait_for_attempt(scene)
        scene.protocol.connection_failed(ConnectRejected("ws://a", status), scene.now)

    assert scene.state(scene.protocol) == "waiting"


def test_closing():
    """Nothing is tried any more, whatever the state was."""
    scene = Scene().connected()
    room = scene.joined()
    scene.protocol.close()

    assert scene.take(Disconnect) == [Disconnect(is_dead=False)]
    assert scene.take(Ended) == [Ended(room, None, 0)]
    assert scene.protocol.next_timer() is None


# What can't be understood.


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        '{"topic":"room:1"}',
        '["1",null,5,"shout",{}]',
        '["1","1","room:1","phx_reply",{}]',
        '["1","1","room:1","phx_reply",[]]',
        '["1","1","room:1","phx_reply",{"status":5,"response":{}}]',
        '["1",null,"room:1","presence_state",{"alice":{"metas":[{}]}}]',
        '["1",null,"room:1","presence_state",[]]',
        '["1",null,"room:1","presence_diff",{"joins":{}}]',
        '["1",null,"room:1","presence_count",{"users":"many","connections":1}]',
        b"",
        b"\x09",
        b"\x00\x05\x05\x05a",
        b"\x02\x01\x01\xff\xff",
        b"\x04\x01\x01\x00\x01ab{",
    ],
    ids=repr,
)
def test_what_cannot_be_understood_is_skipped_and_told(data: str | bytes):
    """One bad frame costs nothing but itself, and is counted."""
    scene = Scene().connected()
    scene.joined()
    scene.hear(data)

    assert len(scene.take(Malformed)) == 1
    assert scene.protocol.malformed_count == 1
    assert scene.state(scene.protocol) == "open"


@pytest.mark.parametrize("ref", [None, 1, ["1"], {}], ids=repr)
def test_replies_to_nobody(ref: object):
    """A reply that answers nothing is passed over."""
    scene = Scene().connected()
    scene.joined()
    scene.reply(ref)

    assert scene.take(Malformed) == []
