"""docs/safety.md: its programs run, and keep out whom they say they keep out."""

from __future__ import annotations

import logging
from base64 import b64encode
from typing import Any

import httpx
import pytest

from roost import ConnectInfo, ConnectRefused, Endpoint, JoinRefused, Mount, WebSocket
from roost.exceptions import ConfigurationError, InvalidKey
from roost.naming import RESERVED_KEYS
from roost.testing import ChannelCase, ClientCase
from roost.wire.messages import Reply
from tests.clients import connect, refusal
from tests.docs.guide import Guide
from tests.servers import FAST, PLAIN, run_uvicorn
from tests.virtual_clock import virtually

GUIDE = Guide("safety.md")

ALICE = {"x-user": "alice", "x-password": "wonderland"}


async def client_of(case: ChannelCase, guide: Any, user_id: str) -> ClientCase:
    """A client with a token for that user."""
    info = ConnectInfo(auth_token=guide.tokens.dumps(user_id))
    return await case.connect(guide.UserSocket, {}, info)


# A token instead of a name.


@virtually
async def test_a_name_from_params_is_anybodys():
    """In the first guide Mallory is listed as alice, and counted as one of her devices."""
    guide = Guide("presence.md").run(until="Set up")
    async with ChannelCase(guide.endpoint) as case:
        for params in ({}, {"user_id": "mallory"}):
            client = await case.connect(guide.UserSocket, params)
            room = await client.join("room:lobby", {"name": "alice"})
            await room.assert_push("presence_state")
        assert guide.online.count_users("room:lobby") == 1
        assert guide.online.count_connections("room:lobby") == 2


@virtually
async def test_a_token_says_who_it_is():
    """The key is the token's user, whatever the parameters say."""
    guide = GUIDE.run(until="A token instead of a name")
    info = ConnectInfo(auth_token=guide.tokens.dumps("alice"))
    async with ChannelCase(guide.endpoint) as case:
        client = await case.connect(guide.UserSocket, {"user_id": "bob", "name": "bob"}, info)
        room = await client.join("room:1", {"name": "bob", "user_id": "bob"})
        assert (await room.assert_push("presence_state")).keys() == {"alice"}
        assert client.id == "users:alice"


@pytest.mark.parametrize("token", [None, "", "alice", "ImFsaWNlIg.aaaaaa.bbbbbb"])
async def test_without_a_good_token_nobody_connects(token: str | None):
    """A missing or a made-up token is refused."""
    guide = GUIDE.run(until="A token instead of a name")
    async with ChannelCase(guide.endpoint) as case:
        with pytest.raises(ConnectRefused, match="bad token"):
            await case.connect(guide.UserSocket, {}, ConnectInfo(auth_token=token))


async def test_a_token_of_another_secret_or_of_yesterday(monkeypatch: pytest.MonkeyPatch):
    """A signature of another secret is refused, and so is a token that is over a day old."""
    guide = GUIDE.run(until="A token instead of a name")
    forged = guide.URLSafeTimedSerializer("guessed", salt="socket").dumps("alice")
    signer = guide.tokens.signer
    now = signer(b"").get_timestamp()
    monkeypatch.setattr(signer, "get_timestamp", lambda self: now - 24 * 3600 - 2)
    old = guide.tokens.dumps("alice")
    monkeypatch.undo()

    async with ChannelCase(guide.endpoint) as case:
        for token in (forged, old):
            with pytest.raises(ConnectRefused, match="bad token"):
                await case.connect(guide.UserSocket, {}, ConnectInfo(auth_token=token))


async def test_a_refused_client_is_not_told_why():
    """It gets a bare 403."""
    guide = GUIDE.run(until="A token instead of a name")
    async with run_uvicorn(guide.app) as url:
        refused = await refusal(url)
    assert (refused.status, refused.body) == (403, b"")


async def test_the_page_gets_a_token_for_its_user():
    """Whoever proves to be alice gets a token for alice; others get none."""
    guide = GUIDE.run(until="A token instead of a name")
    transport = httpx.ASGITransport(app=guide.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as browser:
        answer = await browser.get("/token", headers=ALICE)
        assert guide.tokens.loads(answer.json()["token"]) == "alice"
        for headers in ({}, {"x-user": "carol"}, {**ALICE, "x-user": "bob"}):
            assert (await browser.get("/token", headers=headers)).status_code == 401


async def test_a_token_in_the_url_is_masked_in_the_log(caplog: pytest.LogCaptureFixture):
    """roost's log of a connection has none of a token that is a parameter."""
    caplog.set_level(logging.INFO)
    guide = GUIDE.run(until="A token instead of a name")
    async with run_uvicorn(guide.app) as url:
        await refusal(url, params={"token": "s3cret"})
    log = " ".join(each.getMessage() for each in caplog.records if each.name.startswith("roost"))
    assert "[FILTERED]" in log
    assert "s3cret" not in log


# Sending somebody away.


async def test_a_ban_closes_all_connections_of_a_user():
    """Both of bob's connections are closed, he is off the list and can't come back."""
    guide = GUIDE.run(until="Sending somebody away")
    transport = httpx.ASGITransport(app=guide.app)
    async with (
        ChannelCase(guide.endpoint) as case,
        httpx.AsyncClient(transport=transport, base_url="http://test") as browser,
    ):
        alice = await client_of(case, guide, "alice")
        bobs = [await client_of(case, guide, "bob") for _ in range(2)]
        rooms = [await client.join("room:1") for client in (alice, *bobs)]
        for room in rooms:
            await room.assert_push("presence_state")

        assert (await browser.post("/ban/bob")).status_code == 200

        for bob in bobs:
            await bob.assert_closed(1001)
        await rooms[0].assert_push("presence_diff", {"joins": {}, "leaves": {"bob": {}}})
        await case.settled()
        assert (await guide.online.list("room:1")).keys() == {"alice"}
        with pytest.raises(ConnectRefused, match="banned"):
            await client_of(case, guide, "bob")


# Who may join.


@virtually
async def test_only_members_join():
    """Others get the payload of the refusal, and nobody sees them."""
    guide = GUIDE.run(until="Who may join")
    async with ChannelCase(guide.endpoint) as case:
        alice = await client_of(case, guide, "alice")
        await alice.join("room:1", channel=guide.MembersChannel)
        mallory = await client_of(case, guide, "mallory")
        with pytest.raises(JoinRefused) as refused:
            await mallory.join("room:1", channel=guide.MembersChannel)
        assert refused.value.payload == {"reason": "unauthorized"}
        await guide.online.settled()
        assert (await guide.online.list("room:1")).keys() == {"alice"}


# Which pages may connect.


async def test_pages_of_other_hosts_are_refused():
    """By default the page's host must be the request's; with hosts it must be one of them."""
    guide = GUIDE.run(until="Which pages may connect")
    token: dict[str, Any] = {"subprotocols": ["phoenix", encoded(guide, "alice")]}
    async with run_uvicorn(guide.app) as url:
        async with connect(url, origin=url, **token) as alice:
            assert await alice.join("room:1") == {}
        async with connect(url, **token) as program:  # without an origin
            assert await program.join("room:1") == {}
        refused = await refusal(url, origin="https://evil.example", **token)
        assert refused.status == 403

    async with run_uvicorn(guide.public_endpoint) as url:
        for origin in ("https://example.com", "https://www.example.com"):
            async with connect(url, origin=origin, **token) as alice:
                assert await alice.join("room:1") == {}
        for origin in (url, "https://example.net"):
            assert (await refusal(url, origin=origin, **token)).status == 403


async def test_a_function_may_decide_about_pages():
    """Pages for which it returns true may connect, also under a name that nobody wrote down."""
    guide = GUIDE.run(until="Which pages may connect")
    token: dict[str, Any] = {"subprotocols": ["phoenix", encoded(guide, "alice")]}
    async with run_uvicorn(guide.preview_endpoint) as url:
        async with connect(url, origin="https://7-preview.example.com", **token) as alice:
            assert await alice.join("room:1") == {}
        for origin in (url, "http://7-preview.example.com", "https://example.com"):
            assert (await refusal(url, origin=origin, **token)).status == 403


async def test_hosts_and_check_origin_are_two_answers_to_one_question():
    """Only one of them is taken."""
    guide = GUIDE.run(until="A token instead of a name")
    for check in (False, "conn", ["example.com"]):
        with pytest.raises(ConfigurationError, match="give hosts or check_origin, not both"):
            Endpoint({"/": guide.UserSocket}, hosts=["example.com"], check_origin=check)


async def test_check_origin_of_the_connection_compares_scheme_and_port():
    """With ``"conn"`` a page of another port of the same host is refused; by default it is not."""
    guide = GUIDE.run(until="A token instead of a name")
    token: dict[str, Any] = {"subprotocols": ["phoenix", encoded(guide, "alice")]}
    sockets = {"/socket": Mount(guide.UserSocket, auth_token=True)}
    async with run_uvicorn(Endpoint(sockets, check_origin="conn")) as url:
        async with connect(url, origin=url, **token):
            pass
        for origin in ("http://127.0.0.1:1", url.replace("http:", "https:")):
            assert (await refusal(url, origin=origin, **token)).status == 403
    async with (
        run_uvicorn(Endpoint(sockets)) as url,
        connect(url, origin="http://127.0.0.1:1", **token),
    ):
        pass


# What stands in the log.


@pytest.fixture(autouse=True)
def filters_of_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page adds to uvicorn's loggers is gone after each test."""
    for name in ("uvicorn.access", "uvicorn.error"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])


async def test_named_parameters_are_masked_in_the_log(caplog: pytest.LogCaptureFixture):
    """The endpoint's list replaces the default, for connects, joins and events alike."""
    caplog.set_level(logging.DEBUG, "roost")
    guide = GUIDE.run(until="What stands in the log")
    info = ConnectInfo(auth_token=guide.tokens.dumps("alice"))
    async with ChannelCase(guide.discreet_endpoint) as case:
        client = await case.connect(guide.UserSocket, {"my_iban": "DE75"}, info)
        room = await client.join("room:1", {"iban": "DE76"}, channel=guide.CarefulChannel)
        room.push("shout", {"body": "hi", "payer": {"iban": "DE77"}})
        await room.assert_push("shout")

    lines = [each.getMessage() for each in caplog.records if each.name.startswith("roost")]
    assert any("HANDLED shout" in each and "[FILTERED]" in each for each in lines)
    assert any("JOINED room:1" in each and "[FILTERED]" in each for each in lines)
    assert "DE7" not in " ".join(lines)


async def test_named_parameters_are_masked_in_the_log_of_the_server(
    caplog: pytest.LogCaptureFixture,
):
    """uvicorn's lines for HTTP and for WebSockets, on both of its paths."""
    caplog.set_level(logging.INFO)
    guide = GUIDE.run(until="How long names may be")
    protocols = ["phoenix", encoded(guide, "alice")]
    params = {"my_iban": "DE75"}
    for ws in (FAST, PLAIN):
        async with run_uvicorn(guide.discreet_endpoint, ws=ws, log_level="info") as url:
            async with connect(url, params=params, subprotocols=protocols):
                pass
            async with httpx.AsyncClient(trust_env=False) as http:
                await http.get(url, params=params)

    lines = [each.getMessage() for each in caplog.records if each.name.startswith("uvicorn")]
    assert sum("my_iban=[FILTERED]" in line for line in lines) == 4
    assert "DE75" not in " ".join(lines)


def encoded(guide: Any, user_id: str) -> str:
    """A token as phoenix.js offers it."""
    token = b64encode(guide.tokens.dumps(user_id).encode()).decode().rstrip("=")
    return f"base64url.bearer.phx.{token}"


# Whatever clients send.


@virtually
@pytest.mark.parametrize(
    "payload", [{}, {"body": ""}, {"body": 7}, {"body": "x" * 501}, [], "hi", None, b"\xff"]
)
async def test_a_bad_payload_is_answered(payload: Any):
    """Whatever it is, it gets an error reply, nobody else hears of it, and the channel lives on."""
    guide = GUIDE.run(until="Whatever clients send")
    async with ChannelCase(guide.endpoint) as case:
        alice = await client_of(case, guide, "alice")
        room = await alice.join("room:1", channel=guide.CarefulChannel)
        ref = room.push("shout", payload)
        await room.assert_reply(ref, "error", {"reason": "expected a body of 1 to 500 characters"})
        room.push("shout", {"body": "hi"})
        await room.assert_push("shout", {"from": "alice", "body": "hi"})
        await room.refute_push("shout")


def test_the_bounds_are_those_of_the_code():
    """The table names the defaults."""
    guide = GUIDE.run()
    options = WebSocket()
    assert guide.UserSocket.max_channels == 100
    assert options.max_frame_size == 1024 * 1024
    assert guide.RoomChannel.max_mailbox_count == 1_000
    assert options.max_outbound_size == 8 * 1024 * 1024
    assert options.timeout == 60
    table = GUIDE.text.split("| what | bound |")[1].split("\n\n")[0]
    for bound in ("| 100 |", "| 1 MiB |", "| 1,000 |", "| 8 MiB |", "| 60 s |"):
        assert bound in table


# How many may come.


@virtually
async def test_a_full_room():
    """The third member is refused, a second tab of the first is not, and a leave makes room."""
    guide = GUIDE.run(until="How many may come")
    async with ChannelCase(Endpoint({}, presences=[guide.small])) as case:

        async def join(user_id: str) -> Any:
            client = await client_of(case, guide, user_id)
            return await client.join("room:1", channel=guide.SmallChannel)

        alice = await join("alice")
        await alice.assert_push("presence_state", {"alice": {}})
        bob = await join("bob")
        await join("alice")
        with pytest.raises(JoinRefused) as refused:
            await join("carol")
        assert refused.value.payload == {"reason": "full", "max_members": 2}

        bob.leave()
        await case.settled()
        carol = await join("carol")
        await carol.assert_push("presence_state", {"alice": {}, "carol": {}})


# Names that guests choose.


@virtually
@pytest.mark.parametrize("name", ["", "  ", "x" * 41, 7, None, ["alice"]])
async def test_a_name_that_is_none(name: Any):
    """The client is told what a name is."""
    guide = GUIDE.run(until="Names that guests choose")
    async with ChannelCase(guide.endpoint) as case:
        alice = await client_of(case, guide, "alice")
        with pytest.raises(JoinRefused) as refused:
            await alice.join("room:1", {"name": name}, channel=guide.GuestChannel)
        assert refused.value.payload == {"reason": "expected a name of 1 to 40 characters"}


@virtually
@pytest.mark.parametrize("name", sorted(RESERVED_KEYS))
async def test_a_name_that_would_harm_clients(name: str):
    """Names of JavaScript's object prototype are refused in time."""
    guide = GUIDE.run(until="Names that guests choose")
    async with ChannelCase(guide.endpoint) as case:
        alice = await client_of(case, guide, "alice")
        with pytest.raises(JoinRefused) as refused:
            await alice.join("room:1", {"name": name}, channel=guide.GuestChannel)
        assert refused.value.payload == {"reason": "choose another name"}


@virtually
async def test_a_guest_is_listed_by_name():
    """A good name is a key, without the spaces around it."""
    guide = GUIDE.run(until="Names that guests choose")
    async with ChannelCase(guide.endpoint) as case:
        alice = await client_of(case, guide, "alice")
        room = await alice.join("room:1", {"name": " Alice "}, channel=guide.GuestChannel)
        assert (await room.assert_push("presence_state")).keys() == {"Alice"}


# What presence gives away.


@virtually
async def test_only_friends_are_told_of():
    """Alice asks for bob and carol and hears of bob, her friend; mallory hears of nobody."""
    guide = GUIDE.run()
    wanted = {"friends": ["bob", "carol", {"no": "id"}]}
    async with ChannelCase(guide.endpoint) as case:
        for user_id in ("bob", "carol"):
            room = await (await client_of(case, guide, user_id)).join("room:1")
            await room.assert_push("presence_state")
        alice = await client_of(case, guide, "alice")
        answer = await alice.join("friends:me", wanted, channel=guide.FriendsChannel)
        assert answer.response == {"online": ["bob"]}
        answer = await alice.join("friends:2", {"friends": []}, channel=guide.FriendsChannel)
        assert answer.response == {"online": []}
        mallory = await client_of(case, guide, "mallory")
        answer = await mallory.join("friends:me", wanted, channel=guide.FriendsChannel)
        assert answer.response == {"online": []}
        with pytest.raises(JoinRefused):
            await mallory.join("friends:me", {"friends": "bob"}, channel=guide.FriendsChannel)


# How long names may be.


@virtually
async def test_names_are_as_long_as_the_guide_says():
    """The endpoint has the bound for keys that it was given, and the default ones for the rest."""
    guide = GUIDE.run(until="How long names may be")
    async with ChannelCase(guide.endpoint) as case:
        client = await client_of(case, guide, "u" * 255)
        room = await client.join("room:" + "x" * 1_019)
        assert (await room.assert_push("presence_state")).keys() == {"u" * 255}
        client.send("9", "9", "room:" + "x" * 1_020, "phx_join", {})
        reply = client.transport.received[-1]
        assert isinstance(reply, Reply)
        assert reply.response == {"reason": "topic too long", "max_size": 1024}
        with pytest.raises(InvalidKey, match="at most 255 bytes"):
            guide.online.online(["u" * 256])
