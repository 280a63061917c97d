"""One connection under random messages and random channels: what holds whatever happens."""

from dataclasses import dataclass, field
from enum import Enum, auto

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.channels.joins import (
    MAX_NOTICES,
    ConnectionProtocol,
    Deliver,
    Output,
    StartChannel,
    StopChannel,
    Unrouted,
)
from roost.wire.messages import Message, Reply
from tests.laws import MACHINE

JOIN, LEAVE = "phx_join", "phx_leave"
TOPICS = ["room:1", "room:1", "room:1", "room:2", "room:3", "nowhere"]  # mostly room:1
REPORTS = ["join_succeeded", "join_failed", "channel_closed", "channel_ended"]
MAX_CHANNELS = 2
MAX_WAITING = 2


class Phase(Enum):
    """What a channel of the application is doing."""

    DECIDING = auto()
    JOINED = auto()
    CLEANING_UP = auto()  # it was stopped, or closed by itself
    GONE = auto()


@dataclass
class FakeChannel:
    """A channel as the application sees it, and what its client was told of it."""

    join: Message
    phase: Phase = Phase.DECIDING
    was_stopped: bool = False
    is_to_be_told: bool = False  # of its end, by phx_close or phx_error
    notices: list[str] = field(default_factory=list)


@dataclass
class Said:
    """A message of the client, and what became of it."""

    message: Message
    replies: list[Reply] = field(default_factory=list)
    deliveries: int = 0
    started: FakeChannel | None = None


class ConnectionMachine(RuleBasedStateMachine):
    """A client and channels that do anything, against one protocol."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol = ConnectionProtocol(
            has_route=lambda topic: topic.startswith("room:"),
            max_channels=MAX_CHANNELS,
            max_waiting=MAX_WAITING,
        )
        self.channels: dict[int, FakeChannel] = {}
        self.said: dict[str, Said] = {}  # by ref, which is the client's name for the message
        self.unrouted: list[Message] = []

    # The client.

    @rule(topic=st.sampled_from(TOPICS), has_join_ref=st.sampled_from([True, True, False]))
    def join(self, topic: str, has_join_ref: bool) -> None:
        self.say(topic, JOIN, str(len(self.said)) if has_join_ref else None)

    @rule(topic=st.sampled_from(TOPICS), event=st.sampled_from([LEAVE, "shout"]), data=st.data())
    def say_more(self, topic: str, event: str, data: st.DataObject) -> None:
        joins = [
            each.message.join_ref
            for each in self.said.values()
            if (each.message.topic, each.message.event) == (topic, JOIN)
        ]
        self.say(topic, event, data.draw(st.sampled_from([None, "other", *joins[-3:]])))

    def say(self, topic: str, event: str, join_ref: str | None) -> None:
        message = Message(join_ref, str(len(self.said)), topic, event, {})
        self.said[message.ref] = Said(message)
        self.protocol.receive(message)
        self.carry_out()

    @rule()
    def heartbeat(self) -> None:
        self.protocol.receive(Message(None, "beat", "phoenix", "heartbeat", {}))
        assert self.protocol.outputs() == [Reply(None, "beat", "phoenix", "ok", {})]

    # The channels.

    def having(self, *phases: Phase) -> list[int]:
        return [id for id, channel in self.channels.items() if channel.phase in phases]

    @precondition(lambda self: self.having(Phase.DECIDING))
    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        self.decide(data.draw(st.sampled_from(self.having(Phase.DECIDING))), is_accepted=True)

    @precondition(lambda self: self.having(Phase.DECIDING))
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        self.decide(data.draw(st.sampled_from(self.having(Phase.DECIDING))), is_accepted=False)

    @precondition(lambda self: self.having(Phase.JOINED))
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        channel_id = data.draw(st.sampled_from(self.having(Phase.JOINED)))
        self.channels[channel_id].phase = Phase.CLEANING_UP
        self.channels[channel_id].is_to_be_told = True
        self.protocol.channel_closed(channel_id)
        self.carry_out()
        assert self.channels[channel_id].notices == ["phx_close"]

    @precondition(lambda self: self.having(Phase.JOINED, Phase.CLEANING_UP))
    @rule(data=st.data(), is_silent=st.booleans())
    def crash(self, data: st.DataObject, is_silent: bool) -> None:
        """A crash is reported, or the channel is just gone."""
        channel_id = data.draw(st.sampled_from(self.having(Phase.JOINED, Phase.CLEANING_UP)))
        channel = self.channels[channel_id]
        is_surprise = channel.phase is Phase.JOINED
        channel.phase = Phase.GONE
        channel.is_to_be_told = True
        if is_silent:
            self.protocol.channel_ended(channel_id)
        else:
            self.protocol.channel_crashed(channel_id)
        self.carry_out()
        if is_surprise:
            assert channel.notices == ["phx_error"]

    @precondition(lambda self: self.having(Phase.CLEANING_UP))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(self.having(Phase.CLEANING_UP))))

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), report=st.sampled_from(REPORTS))
    def report_too_late(self, data: st.DataObject, report: str) -> None:
        """A channel that was stopped or is gone had already reported something else."""
        late = [
            id
            for id, channel in self.channels.items()
            if channel.phase is Phase.GONE or (channel.was_stopped and report != "channel_ended")
        ]
        if not late:
            return
        channel_id = data.draw(st.sampled_from(late))
        match report:
            case "join_succeeded":
                self.protocol.join_succeeded(channel_id, {})
            case "join_failed":
                self.protocol.join_failed(channel_id, {})
            case "channel_closed":
                self.protocol.channel_closed(channel_id)
            case "channel_ended":
                self.protocol.channel_ended(channel_id)
        assert self.protocol.outputs() == []

    def decide(self, channel_id: int, *, is_accepted: bool) -> None:
        channel = self.channels[channel_id]
        channel.phase = Phase.JOINED if is_accepted else Phase.GONE
        if is_accepted:
            self.protocol.join_succeeded(channel_id, {"hello": channel_id})
        else:
            self.protocol.join_failed(channel_id, {"reason": channel_id})
        outputs = self.carry_out()
        # Its reply is the first that is written, before anything of or for the channel.
        status, response = (
            ("ok", {"hello": channel_id}) if is_accepted else ("error", {"reason": channel_id})
        )
        join = channel.join
        assert outputs[0] == Reply(join.join_ref, join.ref, join.topic, status, response)

    def finish(self, channel_id: int) -> None:
        self.channels[channel_id].phase = Phase.GONE
        self.protocol.channel_ended(channel_id)
        self.carry_out()

    # The connection: it carries out what the protocol says, and finds fault with it.

    def carry_out(self) -> list[Output]:
        outputs = list(self.protocol.outputs())
        for output in outputs:
            match output:
                case StartChannel(channel_id, join):
                    self.start(channel_id, join)
                case StopChannel(channel_id, _):
                    self.stop(channel_id)
                case Deliver(channel_id, message):
                    self.deliver(self.channels[channel_id], message)
                case Reply():
                    self.reply(output)
                case Message():
                    self.tell_end(output)
                case Unrouted(message, _):
                    self.unrouted.append(message)
                    assert len(self.said[message.ref].replies) == 1
        return outputs

    def start(self, channel_id: int, join: Message) -> None:
        live = self.having(Phase.DECIDING, Phase.JOINED, Phase.CLEANING_UP)
        assert channel_id not in self.channels
        assert join.event == JOIN
        assert join.topic not in {self.channels[id].join.topic for id in live}
        assert len(live) < MAX_CHANNELS
        said = self.said[join.ref]
        assert said.started is None
        assert said.replies == []
        self.channels[channel_id] = said.started = FakeChannel(join)

    def stop(self, channel_id: int) -> None:
        channel = self.channels[channel_id]
        assert channel.phase in (Phase.DECIDING, Phase.JOINED)
        channel.phase = Phase.CLEANING_UP
        channel.was_stopped = channel.is_to_be_told = True

    def deliver(self, channel: FakeChannel, message: Message) -> None:
        assert channel.phase is Phase.JOINED
        assert message.topic == channel.join.topic
        assert message.event != JOIN
        assert message.join_ref in (None, channel.join.join_ref)
        self.said[message.ref].deliveries += 1

    def reply(self, reply: Reply) -> None:
        said = self.said[reply.ref]
        said.replies.append(reply)
        assert reply.topic == said.message.topic
        if reply.response == {"reason": "unmatched topic"}:
            assert reply.join_ref is None
        elif said.message.event == LEAVE and said.message.join_ref is None:
            # It may have cancelled a join: then it is answered for that channel.
            joins = [channel.join.join_ref for channel in self.channels.values()]
            assert reply.join_ref in (None, *joins)
        else:
            assert reply.join_ref == said.message.join_ref

    def tell_end(self, notice: Message) -> None:
        """The join_ref of a channel is in both places; its end is told once, in its turn."""
        assert notice.join_ref == notice.ref
        channel = next(
            channel
            for channel in self.channels.values()
            if (channel.join.topic, channel.join.join_ref) == (notice.topic, notice.join_ref)
            and channel.is_to_be_told
            and not channel.notices
        )
        channel.notices.append(notice.event)
        assert notice.payload == (
            {} if notice.event == "phx_close" else {"reason": "channel_crash"}
        )
        assert notice.event == "phx_close" or not channel.was_stopped

    # What holds after each step.

    @invariant()
    def every_live_channel_is_known(self) -> None:
        live = self.having(Phase.DECIDING, Phase.JOINED, Phase.CLEANING_UP)
        assert sorted(self.protocol.channel_ids()) == live
        topics = [self.channels[id].join.topic for id in live]
        assert len(topics) == len(set(topics)) <= MAX_CHANNELS

    @invariant()
    def queues_are_bounded(self) -> None:
        # A look inside: what waits is not to be seen from outside until its turn comes.
        for slot in self.protocol._slots.values():
            assert len(slot.waiting or ()) <= MAX_WAITING
            assert len(slot.notices) <= MAX_NOTICES

    @invariant()
    def answers_come_once(self) -> None:
        for said in self.said.values():
            assert len(said.replies) <= 1
            assert said.deliveries <= 1
            if said.message.event != LEAVE:  # one that was forwarded may be answered for a channel
                assert len(said.replies) + said.deliveries <= 1

    def teardown(self) -> None:
        """Let everything come to its end: then every message has had an answer."""
        while live := self.having(Phase.DECIDING, Phase.JOINED, Phase.CLEANING_UP):
            channel = self.channels[live[0]]
            if channel.phase is Phase.DECIDING:
                self.decide(live[0], is_accepted=True)
            elif channel.phase is Phase.JOINED:
                channel.phase = Phase.CLEANING_UP
                channel.is_to_be_told = True
                self.protocol.channel_closed(live[0])
                self.carry_out()
            else:
                self.finish(live[0])
        for said in self.said.values():
            self.check_fate(said)
        for channel in self.channels.values():
            was_refused = self.said[channel.join.ref].replies[0:1] and (
                self.said[channel.join.ref].replies[0].status == "error"
            )
            assert len(channel.notices) == (0 if was_refused else 1)

    def check_fate(self, said: Said) -> None:
        message = said.message
        if message.event == JOIN:
            # One reply; none only if the join was cancelled, whose end was told then.
            if not said.replies:
                assert said.started is not None
                assert said.started.was_stopped
                assert said.started.notices == ["phx_close"]
            assert (message in self.unrouted) == (
                said.started is None and said.replies[0].response != {"reason": "overloaded"}
            )
        elif not said.replies and not said.deliveries:
            # It was stale, or it leaves a channel that is leaving already.
            assert message.join_ref is not None or message.event == LEAVE


TestConnection = ConnectionMachine.TestCase
TestConnection.settings = MACHINE
