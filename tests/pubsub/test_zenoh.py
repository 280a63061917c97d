"""Nodes that reach each other over zenoh, with no broker."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from roost.exceptions import AdapterError, ConfigurationError
from roost.pubsub.zenoh import ZenohAdapter, discovery, linger, watch
from roost.pubsub.zenoh.linger import lingering_count
from roost.pubsub.zenoh.settings import LEASE_PERIOD, Address, parse_zenoh_url
from tests.engines import free_port
from tests.pubsub.zenoh_node import NodeProcess
from tests.waiting import until


class Node:
    """An adapter in this process, with what it was told."""

    def __init__(self, url: str, name: str) -> None:
        self.adapter = ZenohAdapter(url, node_name=name)
        self.received: list[bytes] = []
        self.links: dict[str, str] = {}
        self.told: list[str] = []

    async def start(self) -> None:
        await self.adapter.start(self.received.append, self)

    def link_up(self, node_name: str, link: str) -> None:
        self.links[link] = node_name
        self.told.append(f"up {node_name}")

    def link_down(self, link: str) -> None:
        self.told.append(f"down {self.links.pop(link)}")

    def detached(self) -> None:
        self.told.append("detached")

    def attached(self) -> None:
        self.told.append("attached")

    def sees(self, *names: str) -> bool:
        return sorted(self.links.values()) == sorted(names)


@pytest.fixture
def port() -> int:
    """A port that is free."""
    return free_port()


@pytest.fixture
def url(port: int) -> str:
    return f"zenoh://127.0.0.1:{port}"


class Cluster:
    """Makes nodes, and closes them at the end."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self._stack = stack

    async def node(self, name: str, url: str = "") -> Node:
        node = Node(url or self.url, name)
        await node.start()
        self._stack.push_async_callback(node.adapter.close)
        return node

    async def nodes(self, *names: str) -> list[Node]:
        """Nodes that all see each other."""
        nodes = [await self.node(name) for name in names]
        await until(lambda: all(len(node.links) == len(names) - 1 for node in nodes))
        return nodes


@pytest.fixture
async def cluster(url: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(url, stack)


# Messages.


async def test_a_message_to_all_reaches_all_others(cluster: Cluster):
    """What a node publishes comes to each other node once, and not back to itself."""
    a, b, c = await cluster.nodes("a", "b", "c")

    a.adapter.publish(b"hello")
    b.adapter.publish(b"again")

    await until(lambda: len(c.received) == 2 and a.received and b.received)
    assert (a.received, b.received) == ([b"again"], [b"hello"])
    assert sorted(c.received) == [b"again", b"hello"]


async def test_a_message_to_one_reaches_one(cluster: Cluster):
    """A message to a node comes to no other, and one to a name that nobody has to nobody."""
    a, b, c = await cluster.nodes("a", "b", "c")

    a.adapter.publish_to("b", b"for b")
    a.adapter.publish_to("d", b"for d")
    a.adapter.publish(b"for all")

    await until(lambda: len(b.received) == 2 and c.received)
    assert (b.received, c.received) == ([b"for b", b"for all"], [b"for all"])


async def test_messages_of_a_sender_keep_their_order(cluster: Cluster):
    """What a node sends to all and to one arrives in the order in which it was sent."""
    a, b = await cluster.nodes("a", "b")
    expected = [str(number).encode() for number in range(5000)]

    for number, data in enumerate(expected):
        if number % 3:
            a.adapter.publish(data)
        else:
            a.adapter.publish_to("b", data)

    await until(lambda: len(b.received) == len(expected))
    assert b.received == expected
    assert a.adapter.counters + b.adapter.counters == {}


async def test_two_nodes_of_one_name_hear_each_other(cluster: Cluster):
    """An echo is told by the link, so that a duplicate of a name can be noticed."""
    first, second = await cluster.nodes("a", "a")

    first.adapter.publish(b"I am a")
    second.adapter.publish_to("a", b"so am I")

    await until(lambda: first.received and second.received)
    assert (first.received, second.received) == ([b"so am I"], [b"I am a"])


@pytest.mark.parametrize("name", ["a/b", "*", "$*", "@x", "ü?#", "50%", "a b"])
async def test_a_name_may_have_any_characters(cluster: Cluster, name: str):
    """Names are written such that no character means anything to the engine."""
    a, b = await cluster.nodes("a", name)

    a.adapter.publish_to(name, b"hello")

    await until(lambda: b.received)
    assert a.sees(name)


async def test_large_messages_arrive_whole(cluster: Cluster):
    """A snapshot of megabytes goes in parts, none of which is dropped."""
    a, b = await cluster.nodes("a", "b")
    data = os.urandom(20_000_000)

    for _ in range(3):
        a.adapter.publish(data)

    await until(lambda: len(b.received) == 3)
    assert set(b.received) == {data}


async def test_namespaces_keep_apart(cluster: Cluster):
    """Two applications may use the same seeds."""
    chat, game = [
        await cluster.node("a", f"{cluster.url}?namespace={name}") for name in ("chat", "game")
    ]
    other = await cluster.node("b", f"{cluster.url}?namespace=chat")

    chat.adapter.publish(b"hello")

    await until(lambda: other.received)
    assert (game.received, game.links) == ([], {})


async def test_a_full_queue_drops_and_counts(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    """``publish`` never waits: what the sender thread can't take is dropped and counted."""
    monkeypatch.setattr("roost.pubsub.zenoh.adapter._MAX_QUEUED_SIZE", 1_000)
    a, b = await cluster.nodes("a", "b")

    for _ in range(10):
        a.adapter.publish(bytes(900))
    a.adapter.publish(bytes(1001))
    counted = a.adapter.counters["outbox_full"]

    await until(lambda: len(b.received) == 11 - counted)
    assert counted >= 1


async def test_close_sends_what_waits(cluster: Cluster):
    """A goodbye that was published before ``close`` arrives."""
    a, b = await cluster.nodes("a", "b")

    for number in range(1000):
        a.adapter.publish(str(number).encode())
    await a.adapter.close()

    await until(lambda: b.sees() and len(b.received) == 1000)


# Links.


async def test_links_are_told_to_both_ends(cluster: Cluster):
    """Each node is told who is there, also of who was there before it, by name and link."""
    a, b = await cluster.nodes("a", "b")

    assert a.links == {b.adapter.link: "b"}
    assert b.links == {a.adapter.link: "a"}


async def test_a_link_ends_with_close_and_is_new_with_start(cluster: Cluster):
    """A node that restarts under its name is told apart from its former run."""
    a, b = await cluster.nodes("a", "b")
    former = b.adapter.link

    await b.adapter.close()
    await until(lambda: a.sees())
    await b.start()

    await until(lambda: a.sees("b"))
    assert former not in a.links
    assert a.told == ["up b", "down b", "up b"]


async def test_kill_9_is_seen_at_once(cluster: Cluster):
    """The death of a process is told within a second, long before the lease."""
    a = await cluster.node("a")
    with NodeProcess(cluster.url, "b") as b:
        await until(lambda: a.sees("b"))

        b.signal(signal.SIGKILL)
        await until(lambda: a.sees(), timeout=1.0)


async def test_a_stopped_process_is_seen_by_its_lease(cluster: Cluster):
    """SIGSTOP is noticed after the lease; once it goes on, both have found each other again."""
    a, c = await cluster.nodes("a", "c")
    with NodeProcess(cluster.url, "b") as b:
        await until(lambda: a.sees("b", "c") and c.sees("a", "b"))

        b.signal(signal.SIGSTOP)
        await until(lambda: a.sees("c") and c.sees("a"), timeout=2 * LEASE_PERIOD)
        b.signal(signal.SIGCONT)

        await until(lambda: a.sees("b", "c") and c.sees("a", "b"))


async def test_a_stalled_peer_does_not_stall_the_others(cluster: Cluster):
    """While a peer does not read, others get their messages; later it counts what it missed."""
    a, c = await cluster.nodes("a", "c")
    with NodeProcess(cluster.url, "b") as b:
        await until(lambda: a.sees("b", "c"))
        b.signal(signal.SIGSTOP)

        latest = 0.0
        for number in range(300):
            for _ in range(20):
                a.adapter.publish(bytes(10_000))  # far more than all buffers on the way hold
            sent_at = time.monotonic()
            expected = (number + 1) * 20
            await until(lambda: len(c.received) == expected)  # noqa: B023
            latest = max(latest, time.monotonic() - sent_at)
        b.signal(signal.SIGCONT)
        while "got end" not in b.said():
            a.adapter.publish(b"end")  # also dropped until b has read what is on the way
            await asyncio.sleep(0.01)
        b.tell("counters")

        assert latest < 1.0
        assert "lost" in b.wait_for("counters")
        assert a.adapter.counters == c.adapter.counters == {}


async def test_a_restarted_seed_is_joined_again(cluster: Cluster):
    """Seeds are connected to again and again."""
    seed, a = await cluster.nodes("seed", "a")

    await seed.adapter.close()
    await until(lambda: a.sees())
    await seed.start()

    await until(lambda: a.sees("seed") and seed.sees("a"), timeout=5.0)


async def test_seeds_of_one_machine_take_a_port_each(cluster: Cluster, port: int):
    """The first node listens at the first seed's port, the second at the second's, and so on.

    So if the first one hangs, others still meet at the second.
    """
    url = f"{cluster.url},127.0.0.1:{free_port()}"
    with NodeProcess(url, "frozen") as frozen:
        frozen.wait_for("started")
        frozen.signal(signal.SIGSTOP)

        b, c = await cluster.node("b", url), await cluster.node("c", url)
        await until(lambda: b.sees("c") and c.sees("b"), timeout=5.0)
        frozen.signal(signal.SIGCONT)

        await until(lambda: b.sees("c", "frozen") and c.sees("b", "frozen"))


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "localhost"])
async def test_a_node_listens_where_its_seed_is_looked_for(cluster: Cluster, port: int, host: str):
    """Which of this machine's own addresses the seed is makes no difference."""
    url = f"zenoh://{host}:{port}"

    a, b = await cluster.node("a", url), await cluster.node("b", url)

    await until(lambda: a.sees("b") and b.sees("a"), timeout=5.0)


async def test_new_addresses_of_a_seed_are_found(
    cluster: Cluster, port: int, monkeypatch: pytest.MonkeyPatch
):
    """A name is resolved again: who is added behind it later is met."""
    addresses = [Address("127.0.0.1", port)]

    async def resolve(given: Iterable[Address]) -> tuple[list[Address], list[Address]]:
        return [one for each in given for one in ([each] if each.is_number else addresses)], []

    monkeypatch.setattr("roost.pubsub.zenoh.adapter.resolve", resolve)
    monkeypatch.setattr("roost.pubsub.zenoh.discovery.resolve", resolve)
    monkeypatch.setattr("roost.pubsub.zenoh.discovery.CHECK_INTERVAL", 0.1)
    a = await cluster.node("a", "zenoh://app.test?listen=127.0.0.1:0")
    b = await cluster.node("b", f"zenoh://?listen=127.0.0.2:{port}")
    c = await cluster.node("c", f"zenoh://127.0.0.2:{port}?listen=127.0.0.1:0")
    await until(lambda: b.sees("c"))

    addresses.append(Address("127.0.0.2", port))

    await until(lambda: a.sees("b", "c") and c.sees("a", "b"))


# Life.


async def test_it_is_attached_while_it_runs(cluster: Cluster):
    """Before start and after close there is no session; both may be repeated."""
    node = Node(cluster.url, "a")
    attached = [node.adapter.is_attached]
    assert node.adapter.link == ""
    node.adapter.publish(b"to nobody")

    await node.start()
    attached.append(node.adapter.is_attached)
    await node.adapter.close()
    await node.adapter.close()
    attached.append(node.adapter.is_attached)

    assert attached == [False, True, False]


def test_it_starts_again_on_another_loop(url: str):
    """An adapter may run on one loop after the other, even if one was closed under it."""
    node = Node(url, "a")

    async def hear() -> None:
        await node.start()
        other = Node(url, "b")
        await other.start()
        await until(lambda: other.sees("a"))
        other.adapter.publish(b"hello")
        await until(lambda: node.received)
        await other.adapter.close()

    async def hear_and_close() -> None:
        await hear()
        await node.adapter.close()

    for run in (hear_and_close, hear, hear_and_close):
        node.received.clear()
        asyncio.run(run())


async def test_a_taken_port_fails_the_start(port: int):
    """An address of the URL that can't be listened on is an error, which leaves nothing behind."""
    node = Node(f"zenoh://?listen=127.0.0.1:{port}", "a")
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(AdapterError, match=rf"can't listen on 127\.0\.0\.1:{port}: Address"):
            await node.start()
        assert not node.adapter.is_attached

    await node.start()
    await node.adapter.close()


async def test_a_cancelled_start_leaves_nothing(cluster: Cluster):
    """Who gives up while the session opens leaves no node behind."""
    a = await cluster.node("a")
    b = Node(cluster.url, "b")
    starting = asyncio.create_task(b.start())
    await asyncio.sleep(0)
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(
        lambda: not [each for each in threading.enumerate() if each.name.startswith("roost-call")]
    )
    assert not b.adapter.is_attached
    await until(lambda: a.sees())


def test_a_forgotten_close_lets_the_process_end(url: str):
    """A program that ends without ``close`` ends."""
    with NodeProcess(url, "a") as node:
        node.wait_for("started")
        node.tell("forget")

        assert node.process.wait(timeout=5) == 0


def test_a_process_may_end_while_a_peer_is_stalled(url: str):
    """Also ``close`` and the end of the process wait for nobody."""
    with NodeProcess(url, "a") as node, NodeProcess(url, "b") as peer:
        node.wait_for("up b")
        peer.signal(signal.SIGSTOP)
        node.tell("burst 500 10000")
        node.tell("close")

        node.wait_for("closed", timeout=5)
        node.tell("forget")
        assert node.process.wait(timeout=5) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_refused(url: str):
    """zenoh can't work in a child of a process that used it: that is said, and the child ends."""
    with NodeProcess(url, "a") as node:
        node.wait_for("started")
        node.tell("fork")

        assert "forked" in node.wait_for("refused")
        assert node.wait_for("child") == "child 0"


def test_a_name_is_made_for_each_process():
    """What is made before a fork has another name in each child; a name that was given stays."""
    adapter = ZenohAdapter()
    pids = os.getpid(), -1

    names = []
    for pid in pids:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda pid=pid: pid)
            names.append(adapter.node_name)
            assert adapter.node_name == names[-1]

    assert names[0] != names[1]


# Discovery and admission.


@pytest.fixture
def is_hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "CHECK_INTERVAL", 0.1)
    monkeypatch.setattr(discovery, "LONELY_PERIOD", 0.3)


@pytest.mark.usefixtures("is_hasty")
async def test_a_node_says_that_it_is_alone(
    cluster: Cluster, url: str, caplog: pytest.LogCaptureFixture
):
    """Who expects others and has found nobody says so once, with what to check, and in health."""
    a = await cluster.node("a", f"{url}?listen=127.0.0.1:0")
    assert not a.adapter.is_isolated

    await until(lambda: a.adapter.is_isolated and caplog.records)
    await cluster.node("seed")

    await until(lambda: a.sees("seed") and not a.adapter.is_isolated)
    [warning] = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert warning.startswith(f"{url}: alone")
    assert "is a node listening there?" in warning


@pytest.mark.usefixtures("is_hasty")
async def test_the_first_seed_is_not_lonely(cluster: Cluster, port: int):
    """Who is alone in its own list of seeds expects nobody."""
    a = await cluster.node("a")

    await asyncio.sleep(0.6)  # twice as long as it takes the lonely to say so

    assert not a.adapter.is_isolated


@pytest.mark.usefixtures("is_hasty")
async def test_credentials_decide_who_joins(
    cluster: Cluster, port: int, caplog: pytest.LogCaptureFixture
):
    """Another password, or none, keeps a node out; it is told, and no password is shown."""
    at = f"127.0.0.1:{port}"
    seed = await cluster.node("seed", f"zenoh://alice:s3cret@{at}")
    friend = await cluster.node("friend", f"zenoh://alice:s3cret@{at}")
    stranger = await cluster.node("stranger", f"zenoh://{at}")
    liar = await cluster.node("liar", f"zenoh://alice:gu3ss@{at}")

    await until(lambda: liar.adapter.is_isolated and stranger.adapter.is_isolated)
    await until(lambda: len(caplog.records) >= 2)

    assert seed.sees("friend")
    assert friend.sees("seed")
    assert (stranger.links, liar.links) == ({}, {})
    assert "compare credentials" in caplog.text
    assert "s3cret" not in caplog.text
    assert "gu3ss" not in caplog.text


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster's authority with a certificate of it, and the same of somebody else."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*words: object) -> None:
        command = ["openssl", *map(str, words)]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (directory / "extensions").write_text("subjectAltName=DNS:node\nbasicConstraints=CA:FALSE\n")
    for owner in ("ours", "theirs"):
        ca, node = f"{owner}-ca", f"{owner}-node"
        openssl("req", "-x509", *key, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj",
                f"/CN={ca}", "-days", 2)  # fmt: skip
        openssl("req", *key, "-keyout", f"{node}.key", "-out", f"{node}.csr", "-subj", "/CN=node")
        openssl("x509", "-req", "-in", f"{node}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-CAcreateserial", "-out", f"{node}.pem", "-days", 2, "-extfile",
                "extensions")  # fmt: skip
    return directory


@pytest.mark.usefixtures("is_hasty")
async def test_certificates_decide_who_joins(cluster: Cluster, port: int, certificates: Path):
    """With TLS only nodes with a certificate of the cluster's authority join."""

    def tls_url(owner: str) -> str:
        node = certificates / f"{owner}-node"
        ca = certificates / "ours-ca.pem"  # even a stranger may have it: it is no secret
        return f"zenohs://127.0.0.1:{port}?tls_ca={ca}&tls_cert={node}.pem&tls_key={node}.key"

    a, b, c = [await cluster.node(name, tls_url("ours")) for name in "abc"]
    stranger = await cluster.node("stranger", tls_url("theirs"))
    plain = await cluster.node("plain", f"zenoh://127.0.0.1:{port}")
    await until(lambda: a.sees("b", "c") and b.sees("a", "c") and c.sees("a", "b"))
    await until(lambda: stranger.adapter.is_isolated and plain.adapter.is_isolated)

    a.adapter.publish(b"hello")

    await until(lambda: b.received and c.received)
    assert stranger.links == plain.links == {}
    assert a.sees("b", "c")


async def test_a_missing_certificate_is_named():
    """A file of the URL that can't be read is named at the start."""
    node = Node("zenohs://127.0.0.1?tls_ca=/no/ca&tls_cert=/no/cert&tls_key=/no/key", "a")

    with pytest.raises(ConfigurationError, match="tls_ca=/no/ca"):
        await node.start()


async def test_listening_to_the_world_without_admission_is_said(
    caplog: pytest.LogCaptureFixture, port: int
):
    """Who opens a port to others with neither credentials nor certificates is warned."""
    node = Node(f"zenoh://?listen=0.0.0.0:{port}", "a")
    await node.start()
    await node.adapter.close()

    assert f"listening on 0.0.0.0:{port} without credentials" in caplog.text


# URLs.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("http://a", "expected zenoh://"),
        ("zenoh://a:99999", "expected host, host:port"),
        ("zenoh://a/b", "no path"),
        ("zenoh://a?lease=1", "unknown lease"),
        ("zenoh://a?multicast=maybe", "multicast=true or false"),
        ("zenoh://a?namespace=a/*", "expected a namespace"),
        ("zenoh://alice:@a", "none of them empty"),
        ("zenohs://a", "tls_ca, tls_cert and tls_key"),
        ("zenoh://a?tls_ca=/ca.pem", "tls_ca, tls_cert and tls_key"),
    ],
)
def test_a_wrong_url_is_refused_where_it_is_given(given: str, said: str):
    """Each mistake in a URL is told from what was expected."""
    with pytest.raises(ConfigurationError, match=said):
        ZenohAdapter(given)


def test_a_url_has_seeds_and_options():
    """Hosts, IPv6 too, have zenoh's port by default; multicast is off unless it is asked for."""
    settings = parse_zenoh_url("zenoh://a%40:p%2Fw@one,[::1]:7448?listen=0.0.0.0&multicast=true")

    assert list(map(str, settings.seeds)) == ["one:7447", "[::1]:7448"]
    assert list(map(str, settings.listen)) == ["0.0.0.0:7447"]
    assert (settings.user, settings.password) == ("a@", "p/w")
    assert settings.multicast
    assert not parse_zenoh_url("zenoh://").multicast
    assert "p/w" not in repr(settings) + str(settings)


def test_a_missing_engine_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    """Without zenoh the error has the command to install it; on musl it names alternatives."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r'pip install "roost\[zenoh\]"'):
        ZenohAdapter()

    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "x86_64-pc-linux-musl")
    with pytest.raises(ConfigurationError, match=r"musl .* redis:// or nats://"):
        ZenohAdapter()


async def test_no_connection_lingers(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    """To close the connection of a peer that was cut off holds up no thread of the engine.

    That does not wait for anything else: zenoh closes a connection that is cut after 2 s.
    """
    monkeypatch.setattr(discovery, "CHECK_INTERVAL", 60.0)
    found: list[int] = []

    def stop_and_note() -> list[int]:
        found.extend(linger.stop_lingering())
        return found

    monkeypatch.setattr(watch, "stop_lingering", stop_and_note)
    await cluster.nodes("a", "b")

    await until(lambda: found and lingering_count() == 0, timeout=1.9)


async def test_a_node_that_does_not_read_is_detached(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """When what came is not read, hearing nobody says nothing about others, and that is said."""
    is_held_up = False
    monkeypatch.setattr(watch.Reading, "is_held_up", lambda reading, now: is_held_up)
    node = await cluster.node("a")
    assert node.adapter.is_attached

    is_held_up = True
    await until(lambda: not node.adapter.is_attached)
    assert node.told == ["detached"]
    assert node.adapter.counters["held_up"] == 1
    assert "zenoh has read nothing for 1.5 s" in caplog.text

    is_held_up = False
    await until(lambda: node.adapter.is_attached)
    assert node.told == ["detached", "attached"]
