"""docs/tokens.md: its programs run, and its tables are what the code does."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from roost import ConnectInfo, ConnectRefused, JoinRefused
from roost.exceptions import TokenError, TokenExpired, TokenInvalid, TokenMissing
from roost.testing import ChannelCase, JoinedCase
from roost.tokens import key_sets, rotation, terms, verified
from tests.clients import connect, refusal
from tests.docs.guide import Guide
from tests.servers import run_uvicorn
from tests.tokens.jwts import Keys, made, public_jwk
from tests.virtual_clock import virtually

GUIDE = Guide("tokens.md")
CREDENTIALS = {"user_id": "alice", "password": "wonderland"}


@asynccontextmanager
async def browser(guide: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A browser at the guide's application."""
    transport = httpx.ASGITransport(app=guide.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as pages:
        yield pages


async def log_in(guide: Any) -> str:
    """The token of a new login."""
    async with browser(guide) as pages:
        assert (await pages.post("/login", json=CREDENTIALS)).status_code == 200
        return str((await pages.post("/token")).json()["token"])


async def enter(case: ChannelCase, guide: Any, token: str) -> JoinedCase:
    client = await case.connect(guide.UserSocket, {}, ConnectInfo(auth_token=token))
    return await client.join("room:1", channel=guide.RenewedChannel)


# Log in, and connect.


async def test_only_who_is_logged_in_gets_a_token():
    """A wrong password is no login, and without one there is no token."""
    guide = GUIDE.run(until="Log in, and connect")
    async with browser(guide) as pages:
        assert (await pages.post("/token")).status_code == 401
        for user_id, password in (("alice", "guess"), ("alice", ""), ("mallory", "")):
            wrong = {"user_id": user_id, "password": password}
            assert (await pages.post("/login", json=wrong)).status_code == 401
        assert (await pages.post("/login", json=CREDENTIALS)).status_code == 200
        assert (await pages.post("/token")).json().keys() == {"token"}


async def test_the_token_connects():
    """On a real server: alice is who the token says; without a good one it is 403."""
    guide = GUIDE.run(until="Log in, and connect")
    token = await log_in(guide)
    async with run_uvicorn(guide.app) as url:
        async with connect(url, subprotocols=subprotocols(token)) as alice:
            await alice.join("room:1")
            assert list(await alice.receive("presence_state")) == ["alice"]
        expired = guide.user_tokens.sign({"user_id": "alice", "login_id": "1"}, signed_at=1)
        for bad in (token[:-1], "garbage", expired):
            assert (await refusal(url, subprotocols=subprotocols(bad))).status == 403
        assert (await refusal(url)).status == 403


def subprotocols(token: str) -> Any:
    encoded = b64encode(token.encode()).decode().rstrip("=")
    return ["phoenix", f"base64url.bearer.phx.{encoded}"]


# What is refused, and how.


def test_the_table_of_errors():
    """It names each error with its code."""
    for error in (TokenMissing, TokenInvalid, TokenExpired):
        assert f"| `{error.__name__}` |" in GUIDE.text
        assert f"| `{error.code}` |" in GUIDE.text
        assert issubclass(error, TokenError)


# Expiry, and renewal.


@virtually
async def test_a_connection_ends_with_its_token():
    """After an hour it is closed, not before; and the old token connects nobody."""
    guide = GUIDE.run(until="Expiry, and renewal")
    token = guide.user_tokens.sign({"user_id": "alice", "login_id": "1"})
    async with ChannelCase(guide.endpoint) as case:
        room = await enter(case, guide, token)
        await asyncio.sleep(3590)
        assert room.channel.is_joined
        room.client.socket.assigns["expires_at"] = time.time()  # which the virtual clock leaves
        await asyncio.sleep(20)
        await room.client.assert_closed(1001)


@virtually
async def test_a_renewed_token_keeps_the_connection():
    """A new token over the connection sets the alarm anew; one of another login does not."""
    guide = GUIDE.run(until="Expiry, and renewal")
    login = {"user_id": "alice", "login_id": "1"}
    async with ChannelCase(guide.endpoint) as case:
        room = await enter(case, guide, guide.user_tokens.sign(login, max_age=60))
        assert room.client.socket.assigns["expires_at"] < time.time() + 61
        for bad, reason in (
            (guide.user_tokens.sign({**login, "login_id": "2"}), "a token of another login"),
            (guide.user_tokens.sign(login, signed_at=1), "token_expired"),
            ("garbage", "token_invalid"),
            (None, "token_missing"),
        ):
            ref = room.push("access_token", {"access_token": bad})
            await room.assert_reply(ref, "error", {"reason": reason})
        assert room.client.socket.assigns["expires_at"] < time.time() + 61

        ref = room.push("access_token", {"access_token": guide.user_tokens.sign(login)})
        await room.assert_reply(ref, "ok", {})
        assert room.client.socket.assigns["expires_at"] > time.time() + 3000
        await asyncio.sleep(120)
        assert room.channel.is_joined


def test_the_leeway_is_five_seconds():
    """It is 5 seconds."""
    guide = GUIDE.run(until="Log in, and connect")
    now = time.time()

    guide.user_tokens.verify(guide.user_tokens.sign(1, signed_at=now - 3602))
    with pytest.raises(TokenExpired):
        guide.user_tokens.verify(guide.user_tokens.sign(1, signed_at=now - 3606))


# The rest.


def test_what_the_old_secret_signed_is_good_until_it_is_left_out():
    """What the old secret signed is good until it is left out."""
    old = GUIDE.run(until="Log in, and connect").user_tokens
    new = GUIDE.run(until="Rotate the secret").user_tokens

    assert new.verify(old.sign("alice")).data == "alice"
    with pytest.raises(TokenInvalid):
        old.verify(new.sign("alice"))


@virtually
async def test_an_invitation_lets_into_its_room_and_nowhere_else():
    """It lets into its room, and nowhere else; it can't be read."""
    guide = GUIDE.run(until="Tokens that nobody can read")
    invitation = guide.link.partition("?t=")[2]
    async with ChannelCase(guide.endpoint) as case:
        info = ConnectInfo(auth_token=guide.user_tokens.sign({"user_id": "bob", "login_id": "1"}))
        bob = await case.connect(guide.UserSocket, {}, info)
        for topic, params, reason in (
            ("room:1", {}, "token_missing"),
            ("room:2", {"invitation": invitation}, "an invitation to another room"),
        ):
            with pytest.raises(JoinRefused) as refused:
                await bob.join(topic, params, channel=guide.InvitedChannel)
            assert refused.value.payload == {"reason": reason}
        await bob.join("room:1", {"invitation": invitation}, channel=guide.InvitedChannel)


@virtually
async def test_users_of_a_phoenix_application():
    """A token of theirs connects, and says who it is."""
    guide = GUIDE.run(until="Beside a Phoenix application")
    async with ChannelCase(guide.endpoint) as case:
        info = ConnectInfo(auth_token=guide.phoenix_tokens.sign(7))
        client = await case.connect(guide.PhoenixUserSocket, {}, info)
        assert client.id == "users_socket:7"
        with pytest.raises(ConnectRefused):
            await case.connect(guide.PhoenixUserSocket, {}, ConnectInfo(auth_token="bad"))


@virtually
async def test_users_of_a_provider():
    """Their tokens connect, by the provider's keys."""
    guide = GUIDE.run()
    keys = Keys()

    async def fetch(url: str) -> bytes:
        return json.dumps({"keys": [public_jwk(keys.rsa, kid="1")]}).encode()

    guide.provider._fetch = fetch
    claims = {
        "iss": "https://id.example.com",
        "aud": "https://chat.example.com",
        "sub": "alice",
        "exp": time.time() + 60,
    }
    async with ChannelCase(guide.endpoint) as case:
        for change, is_good in (({}, True), ({"aud": "another"}, False)):
            token = made({"alg": "RS256", "kid": "1"}, {**claims, **change}, keys.rsa)
            info = ConnectInfo(auth_token=token)
            if is_good:
                client = await case.connect(guide.ProviderSocket, {}, info)
                assert client.socket.assigns["user_id"] == "alice"
            else:
                with pytest.raises(ConnectRefused):
                    await case.connect(guide.ProviderSocket, {}, info)
        good = made(
            "HS256",
            {**claims, "iss": "https://partner.example.com", "aud": "chat"},
            b"a secret of 32 bytes or more that both of you have",
        )
        assert guide.partner_tokens.verify(good).data["sub"] == "alice"


def test_the_bounds_of_the_page_are_those_of_the_code():
    """The numbers of the page are those of the code."""
    assert verified.MAX_TOKEN_SIZE == 8192
    assert verified.DEFAULT_MAX_AGE == 86400
    assert rotation.MAX_SECRETS == 16
    assert terms.MAX_DEPTH == 64
    assert key_sets.MAX_DOCUMENT_SIZE == 256 * 1024
    assert (key_sets.FRESH_PERIOD, key_sets.FETCH_INTERVAL) == (600, 10)
    assert key_sets.STALE_PERIOD == 86400
