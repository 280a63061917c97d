"""Signed and encrypted tokens of roost's own, and what all who verify have in common."""

from __future__ import annotations

import hmac
import json
import math
import sys
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from joserfc import jwe, jws, jwt
from joserfc.jwk import OctKey

import roost
from roost import Channel, ConnectInfo, ConnectRefused, Endpoint, Socket, event
from roost.exceptions import (
    ConfigurationError,
    JoinRefused,
    PayloadError,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from roost.testing import ChannelCase
from roost.tokens import EncryptedTokens, PhoenixTokens, SignedTokens, Verified
from tests.tokens.clock import Clock
from tests.virtual_clock import virtually

SECRET = "0123456789abcdef0123456789abcdef"
both = pytest.mark.parametrize("kind", ["signed", "encrypted"])


class Way(NamedTuple):
    """Signing and verifying, or encrypting and decrypting: the same rules hold for both."""

    make: Callable[..., str]
    read: Callable[..., Verified]


def way(kind: str, secrets: Any = SECRET, **options: Any) -> Way:
    options = {"salt": "socket", **options}
    if kind == "signed":
        signed = SignedTokens(secrets, **options)
        return Way(signed.sign, signed.verify)
    encrypted = EncryptedTokens(secrets, **options)
    return Way(encrypted.encrypt, encrypted.decrypt)


@both
@pytest.mark.parametrize("data", [None, 7, "ünïcode", ["a", {"b": 1.5}], {"user_id": "alice"}])
def test_what_is_made_is_read(kind: str, data: Any):
    """Any JSON value comes back as it was."""
    make, read = way(kind)

    assert read(make(data)).data == data


@both
def test_who_may_read(kind: str):
    """Another secret, another salt, and the other kind of token are of no use."""
    make, read = way(kind)
    other_kind = "encrypted" if kind == "signed" else "signed"
    phoenix = PhoenixTokens(SECRET, salt="socket")
    for token in (
        way(kind, SECRET[::-1]).make(7),
        way(kind, salt="another").make(7),
        way(other_kind).make(7),
        phoenix.sign(7),
        phoenix.encrypt(7),
        "garbage",
        "",
    ):
        with pytest.raises(TokenInvalid):
            read(token)
    with pytest.raises(TokenMissing):
        read(None)
    assert read(make(7)).data == 7


@both
def test_a_token_expires(kind: str, clock: Clock):
    """It is good for a day, or for as long as was said, and the leeway of clocks."""
    make, read = way(kind, leeway=2.0)
    daily, short = make(7), make(7, max_age=60)
    made_at = clock.now

    assert read(daily) == Verified(7, made_at, made_at + 86400)
    assert read(short).expires_in() == 60
    clock.advance(61.9)
    assert read(short).expires_in() == pytest.approx(-1.9)
    clock.advance(0.1)
    with pytest.raises(TokenExpired) as expired:
        read(short)
    assert expired.value.expired_at == made_at + 60
    clock.now = made_at + 86402
    with pytest.raises(TokenExpired):
        read(daily)


@both
def test_the_least_maximum_age_counts(kind: str, clock: Clock):
    """Who makes a token and who reads it each say how old it may be; neither can say more."""
    an_hour, a_day = way(kind, max_age=3600, leeway=0), way(kind, leeway=0)

    assert a_day.read(an_hour.make(7)).expires_in() == 3600
    assert an_hour.read(a_day.make(7)).expires_in() == 3600
    assert a_day.read(a_day.make(7), max_age=60).expires_in() == 60
    assert an_hour.read(an_hour.make(7, max_age=1e9), max_age=1e9).expires_in() == 3600
    clock.advance(3600)
    with pytest.raises(TokenExpired):
        an_hour.read(a_day.make(7, signed_at=clock.now - 3600))


@both
def test_for_ever_has_to_be_said(kind: str, clock: Clock):
    """Infinite is a maximum age; what was made so is still old where a day is the most."""
    for_ever, a_day = way(kind, max_age=math.inf), way(kind)
    token = for_ever.make(7)
    clock.advance(1e9)

    assert for_ever.read(token).expires_at == math.inf
    with pytest.raises(TokenExpired):
        a_day.read(token)


@both
def test_tokens_from_the_future(kind: str, clock: Clock):
    """The clock of another machine may be ahead by the leeway."""
    make, read = way(kind, leeway=2.0)

    assert read(make(7, signed_at=clock.now + 2)).data == 7
    with pytest.raises(TokenInvalid, match="clocks"):
        read(make(7, signed_at=clock.now + 2.1))


@both
def test_the_first_secret_makes_tokens_and_all_are_read(kind: str):
    """The first of them makes tokens, all of them are read: so that they can be rotated."""
    old, new = SECRET, SECRET[::-1]
    before, during, after = way(kind, old), way(kind, [new, old]), way(kind, (new,))

    assert during.read(before.make("alice")).data == "alice"
    assert after.read(during.make("alice")).data == "alice"
    with pytest.raises(TokenInvalid):
        after.read(before.make("alice"))


@both
def test_whatever_is_changed_is_invalid(kind: str):
    """No character of a token can be another one, none can be left out, none can be added."""
    make, read = way(kind)
    token = make({"user_id": 7})
    for place in range(len(token)):
        for other in ("A", "B", "_", ".", "=", "\n", ""):
            changed = token[:place] + other + token[place + 1 :]
            if changed != token:
                with pytest.raises(TokenInvalid):
                    read(changed)
    for added in ("A", "=", ".", ".A", "\n", "\0"):
        for changed in (token + added, added + token):
            with pytest.raises(TokenInvalid):
                read(changed)


def key_of(tokens: SignedTokens | EncryptedTokens) -> OctKey:
    (key,) = tokens._keys
    return key


def test_a_token_chooses_no_algorithm():
    """The same key, and any other header than ours: invalid, also without a signature."""
    tokens = SignedTokens(SECRET, salt="socket")
    key = key_of(tokens)
    payload = b'{"data":7,"iat":1}'
    header, body, _ = tokens.sign(7).split(".")
    for other in (
        jws.serialize_compact({"alg": "HS512"}, payload, key, algorithms=["HS512"]),
        jws.serialize_compact({"alg": "HS256"}, payload, key),
        jws.serialize_compact({"typ": "JWT", "alg": "HS256", "kid": "1"}, payload, key),
        f"eyJhbGciOiJub25lIn0.{body}.",
        f"{header}.{body}.",
        f"{header}..",
    ):
        with pytest.raises(TokenInvalid):
            tokens.verify(other)


def test_an_encrypted_token_chooses_no_algorithm():
    """Neither another cipher, nor a compression that could be a bomb."""
    tokens = EncryptedTokens(SECRET, salt="socket")
    key, payload = key_of(tokens), b'{"data":7,"iat":1}'
    for header in (
        {"alg": "dir", "enc": "A128CBC-HS256"},
        {"alg": "A256KW", "enc": "A256GCM"},
        {"alg": "dir", "enc": "A256GCM", "zip": "DEF"},
        {"alg": "dir", "enc": "A256GCM", "kid": "1"},
    ):
        other = jwe.encrypt_compact(header, payload, key, algorithms=list(header.values()))
        with pytest.raises(TokenInvalid):
            tokens.decrypt(other)


def test_they_are_jwts():
    """Whoever has the derived key reads them with any library for JWTs."""
    signed, encrypted = SignedTokens(SECRET, salt="a"), EncryptedTokens(SECRET, salt="a")
    read = jwt.decode(signed.sign({"user_id": 7}, signed_at=1.5), key_of(signed))
    opened = jwe.decrypt_compact(encrypted.encrypt(7), key_of(encrypted))

    assert read.header == {"alg": "HS256", "typ": "JWT"}
    assert read.claims == {"data": {"user_id": 7}, "iat": 1.5, "exp": 86401.5}
    assert json.loads(opened.plaintext or b"")["data"] == 7
    assert opened.headers() == {"alg": "dir", "enc": "A256GCM"}


def test_keys_are_derived():
    """The key is HKDF-SHA256 of the secret with the kind and the salt: fixed for all releases."""
    signed_key = "394a0ad66d4c4eb443d037daff99a391c72dc01b7b5f49f9311d280c136cf7e3"
    encrypted_key = "444a28fc55f0a70649d10b380d4c8afa2f158e1734de098d58212c7a34769810"
    for tokens, kind, key in (
        (SignedTokens(SECRET, salt="socket"), b"signed", signed_key),
        (EncryptedTokens(SECRET, salt="socket"), b"encrypted", encrypted_key),
    ):
        extracted = hmac.digest(bytes(32), SECRET.encode(), "sha256")
        info = b"roost " + kind + b" token\0socket"
        assert hmac.digest(extracted, info + b"\x01", "sha256").hex() == key
        assert key_of(tokens).raw_value.hex() == key


def test_an_encrypted_token_says_nothing():
    """Not even twice the same."""
    make, _ = way("encrypted")
    one, other = make("alice"), make("alice")

    assert one != other
    for part in one.split("."):
        assert b"alice" not in urlsafe_b64decode(part + "===")


@both
@pytest.mark.parametrize("token", [b"bytes", 7, ["a"], {}, "ünïcode", "\ud800", "a" * 8193])
def test_what_can_be_no_token_is_not_looked_into(kind: str, token: Any):
    """What is no text, no ASCII, or too long is invalid before anything of it is decoded."""
    with pytest.raises(TokenInvalid):
        way(kind).read(token)


@both
def test_good_tokens_that_are_too_long(kind: str):
    """How long a token may be is said by who reads it."""
    make, read = way(kind, max_size=1 << 20)
    token = make("a" * 9000)

    assert read(token).data == "a" * 9000
    with pytest.raises(TokenInvalid, match="more than 8192"):
        way(kind).read(token)


@both
def test_what_can_not_be_made(kind: str):
    """Data that is no JSON, or too much of it, is refused where it is given."""
    make, _ = way(kind)
    for data in (object(), math.nan, "\ud800", "a" * 9000):
        with pytest.raises(PayloadError):
            make(data)
    long = way(kind, max_size=1 << 20)
    assert long.read(long.make("a" * 500_000)).data == "a" * 500_000


@pytest.mark.parametrize("kind", [SignedTokens, EncryptedTokens])
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"secrets": "too short"}, "can be guessed"),
        ({"secrets": []}, "one to 16 secrets"),
        ({"secrets": [SECRET] * 17}, "one to 16 secrets"),
        ({"secrets": None}, "environment variable"),
        ({"secrets": [SECRET, None]}, "environment variable"),
        ({"salt": ""}, "salt"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": math.nan}, "max_age"),
        ({"leeway": math.inf}, "leeway"),
        ({"max_size": 0}, "max_size"),
    ],
)
def test_options_that_can_not_work(kind: Any, options: dict[str, Any], complaint: str):
    """They are named where they are given."""
    with pytest.raises(ConfigurationError, match=complaint):
        kind(**{"secrets": SECRET, "salt": "socket", **options})


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without the library the class says what to install; importing roost needs none of it."""
    for name in [name for name in sys.modules if name.startswith(("joserfc", "cryptography"))]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("roost.tokens.jose", "roost.tokens.phoenix_cipher"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(roost.tokens, name.rpartition(".")[2], raising=False)

    with pytest.raises(ConfigurationError, match=r'pip install "roost\[tokens\]"'):
        SignedTokens(SECRET, salt="socket")
    phoenix = PhoenixTokens(SECRET, salt="socket")
    assert phoenix.verify(phoenix.sign(7)).data == 7
    with pytest.raises(ConfigurationError, match=r'pip install "roost\[tokens\]"'):
        phoenix.encrypt(7)


@virtually
async def test_uncaught_it_refuses():
    """A token that is not good refuses the connection, the join, or the event that brought it."""
    tokens = SignedTokens(SECRET, salt="socket")

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            tokens.verify(params.get("token"))

        @event("renew")
        def renew(self, payload: Any) -> dict[str, Any]:
            return {"user_id": tokens.verify(payload.get("token")).data}

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        def connect(self, params: Any, info: ConnectInfo) -> None:
            self.assigns["user_id"] = tokens.verify(info.auth_token).data

    expired = tokens.sign("alice", signed_at=1)
    async with ChannelCase(Endpoint({})) as case:
        for token, code in ((None, "missing"), ("bad", "invalid"), (expired, "expired")):
            with pytest.raises(ConnectRefused) as refused:
                await case.connect(UserSocket, {}, ConnectInfo(auth_token=token))
            assert isinstance(refused.value, TokenError)
            assert refused.value.code == f"token_{code}"
            assert token is None or token not in str(refused.value)

        good = tokens.sign("alice")
        alice = await case.connect(UserSocket, {}, ConnectInfo(auth_token=good))
        with pytest.raises(JoinRefused) as denied:
            await alice.join("room:1", {"token": expired})
        assert denied.value.payload == {"reason": "token_expired"}
        room = await alice.join("room:1", {"token": good})
        await room.assert_reply(
            room.push("renew", {"token": expired}), "error", {"reason": "token_expired"}
        )
        await room.assert_reply(room.push("renew", {"token": good}), "ok", {"user_id": "alice"})
