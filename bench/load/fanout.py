"""One message to a thousand sockets, in closed and open loop; and pings there and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from time import monotonic

from bench.load.crowd import Client, Crowd
from bench.load.expected import FIRST_NUMBER, Lost, Stream, Template, payload
from bench.load.frames import FrameReader
from bench.load.shares import Shares, Watch
from bench.load.target import Measured, Target, entry, percentile

__all__ = ["closed_loop", "open_loop", "ping"]

TOPIC = "plain:fan"
SIZE = 100  # bytes of a payload
WARM_UP = 0.5  # seconds
PATIENCE = 30.0  # seconds
SPIN = 0.0015  # seconds before a message is due in which the clock is watched: epoll counts in ms


class Fan:
    """The members of a room, of whom the first sends; everybody gets everything, in order."""

    def __init__(self, target: Target, crowd: Crowd, count: int) -> None:
        self._target = target
        self._crowd = crowd
        self._clients = crowd.connect_all(entry(target, f"u{n}", [TOPIC]) for n in range(count))
        self._template = _learn(crowd, self._clients, [self._message(FIRST_NUMBER)])[0]
        self.stream = Stream(self._template.size, count)
        self.sent_count = 0
        self._since: list[float] = []  # from when on the latency of a message counts
        self.delivered_count = 0
        self._latencies: Counter[int] = Counter()  # in units of 10 µs
        for number, client in enumerate(self._clients):
            client.take_chunks(self.stream.receiver(number))
        crowd.on_batch = self._count

    def _message(self, number: int) -> bytes:
        return self._target.dialect.push(TOPIC, "shout", payload(number, SIZE), number)

    def send(self, since: float) -> None:
        number = FIRST_NUMBER + 1 + self.sent_count
        self.sent_count += 1
        self.stream.expect(self._template.make(number))
        self._since.append(since)
        self._clients[0].send(self._message(number))

    def _count(self) -> None:
        now = self._crowd.now
        for message, count in self.stream.arrived():
            self.delivered_count += count
            self._latencies[int((now - self._since[message]) * 1e5)] += count

    def run_closed(self, outstanding: int, duration: float) -> None:
        """Keep ``outstanding`` messages under way that not all have received."""
        until = monotonic() + duration
        stream, crowd = self.stream, self._crowd
        silent_since, complete_count = monotonic(), stream.complete_count
        while crowd.now < until:
            while self.sent_count - stream.complete_count < outstanding:
                self.send(monotonic())
            crowd.step(1.0)
            if stream.complete_count != complete_count:
                silent_since, complete_count = crowd.now, stream.complete_count
            elif crowd.now - silent_since > PATIENCE:
                raise Lost(f"message {complete_count} did not reach everybody")

    def run_open(self, rate: float, duration: float) -> None:
        """Send at fixed times, whatever has arrived; latency counts from these times."""
        start = monotonic()
        count = max(int(rate * duration), 1)
        for number in range(count):
            due = start + number / rate
            while (rest := due - monotonic()) > 0:
                self._crowd.step(rest - SPIN if rest > SPIN else 0)
            self.send(due)

    def finish(self) -> None:
        """Wait until everybody has everything."""
        self._crowd.run(lambda: self.stream.is_complete, PATIENCE, "messages were lost")

    def forget(self) -> None:
        """Begin to count."""
        self.delivered_count = 0
        self._latencies.clear()

    def latency(self, share: float) -> float:
        """A percentile in milliseconds."""
        return percentile(self._latencies, share) / 100


def _learn(crowd: Crowd, clients: Sequence[Client], texts: Sequence[bytes]) -> list[Template]:
    """Let the first clients send a text each, with FIRST_NUMBER; learn what each receives."""
    received = [b""] * len(clients)

    def take(number: int, chunk: bytes) -> None:
        received[number] += chunk

    def is_done() -> bool:
        while waiting and any(FrameReader().feed(received[waiting[-1]])):
            waiting.pop()
        return not waiting

    waiting = list(range(len(clients)))
    for number, client in enumerate(clients):
        client.take_chunks(partial(take, number))
    for client, text in zip(clients, texts, strict=False):
        client.send(text)
    crowd.run(is_done, PATIENCE, "not all clients received the first message")
    if len(texts) == 1 and len(set(received)) != 1:
        raise Lost("clients of one topic received different bytes")
    return [Template(each, FIRST_NUMBER) for each in received]


def closed_loop(target: Target, count: int, outstanding: int, duration: float) -> Measured:
    """A message goes out when an earlier one has reached everybody."""
    with Crowd(target.url) as crowd:
        fan = Fan(target, crowd, count)
        fan.run_closed(outstanding, WARM_UP)
        fan.forget()
        with Watch(target.pids) as watch:
            fan.run_closed(outstanding, duration)
        rate = fan.delivered_count / watch.shares.duration
        fan.finish()
        return _measured(fan, rate, watch.shares)


def open_loop(target: Target, count: int, duration: float) -> Measured:
    """Messages go out at fixed times: half as many as the closed loop, just measured, managed."""
    with Crowd(target.url) as crowd:
        fan = Fan(target, crowd, count)
        fan.run_closed(1, WARM_UP)
        fan.forget()
        started_at = monotonic()
        fan.run_closed(1, duration / 2)
        rate = fan.delivered_count / count / (monotonic() - started_at) / 2
        fan.finish()
        fan.forget()
        with Watch(target.pids) as watch:
            fan.run_open(rate, duration)
            fan.finish()
        return _measured(fan, fan.delivered_count / watch.shares.duration, watch.shares)


def _measured(fan: Fan, rate: float, shares: Shares) -> Measured:
    latencies = {"p50, ms": fan.latency(0.5), "p99, ms": fan.latency(0.99)}
    return Measured({"deliveries/s": rate, **latencies, "p99.9, ms": fan.latency(0.999)}, shares)


def ping(target: Target, count: int, duration: float) -> Measured:
    """Each client sends a ping as soon as the last one is answered."""
    dialect = target.dialect
    topics = [f"plain:{number}" for number in range(count)]

    def message(client: int, number: int) -> bytes:
        return dialect.push(topics[client], "ping", payload(number, SIZE), number)

    with Crowd(target.url) as crowd:
        clients = crowd.connect_all(entry(target, f"u{n}", [t]) for n, t in enumerate(topics))
        templates = _learn(crowd, clients, [message(n, FIRST_NUMBER) for n in range(count)])
        numbers = [FIRST_NUMBER] * count
        sent_at = [0.0] * count
        due = [b""] * count
        latencies: Counter[int] = Counter()  # in units of 10 µs
        is_over = False
        busy = set(range(count))

        def send(client: int) -> None:
            number = numbers[client] = numbers[client] + 1
            due[client] = templates[client].make(number)
            sent_at[client] = monotonic()
            clients[client].send(message(client, number))

        def take(client: int, chunk: bytes) -> None:
            if not chunk or not due[client].startswith(chunk):
                raise Lost(f"expected {due[client]!r}, got {chunk!r}")
            due[client] = due[client][len(chunk) :]
            if due[client]:
                return
            latencies[int((crowd.now - sent_at[client]) * 1e5)] += 1
            if is_over:
                busy.discard(client)
            else:
                send(client)

        for number, client in enumerate(clients):
            client.take_chunks(partial(take, number))
            send(number)
        _run_for(crowd, WARM_UP)
        latencies.clear()
        with Watch(target.pids) as watch:
            _run_for(crowd, duration)
        latencies_count = latencies.total()
        rate = latencies_count / watch.shares.duration
        is_over = True
        crowd.run(lambda: not busy, PATIENCE, "pings were not answered")
    figures = {"round trips/s": rate, "p50, ms": percentile(latencies, 0.5) / 100}
    figures["p99, ms"] = percentile(latencies, 0.99) / 100
    figures["CPU for each, µs"] = watch.shares.cpu_for_each(latencies_count)
    return Measured(figures, watch.shares)


def _run_for(crowd: Crowd, duration: float) -> None:
    until = monotonic() + duration
    while crowd.now < until:
        crowd.step(1.0)
