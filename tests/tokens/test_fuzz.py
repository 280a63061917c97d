"""Whole tokens, garbled: whoever sends what, it is refused, and refused in good time."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roost.exceptions import TokenError
from roost.tokens import (
    EncryptedTokens,
    JWKSVerifier,
    JWTVerifier,
    PhoenixTokens,
    SignedTokens,
    Verified,
)
from tests.laws import LAW
from tests.tokens import phoenix_rules
from tests.tokens.erlang import atom, integer, term, tuple_
from tests.tokens.jwts import Keys, base64url, made, public_jwk, public_pem
from tests.virtual_clock import run_virtually

SECRET = "0123456789abcdef" * 4
SIZE = 8192
KEYS = Keys()

SIGNED = SignedTokens([SECRET, SECRET[::-1]], salt="socket")
ENCRYPTED = EncryptedTokens([SECRET, SECRET[::-1]], salt="socket")
PHOENIX = PhoenixTokens([SECRET, SECRET[::-1]], salt="socket")
CLAIMS = {"iss": "a", "aud": "b", "exp": 1e11}
NAMES: dict[str, Any] = {"issuer": "a", "audience": "b"}


async def fetch(url: str) -> bytes:
    entries = [public_jwk(KEYS.of(each), kid=each) for each in ("RS256", "ES256", "EdDSA")]
    return json.dumps({"keys": entries}).encode()


def by_key_set(token: Any) -> Verified:
    verifier = JWKSVerifier("https://id.example.com/keys", fetch=fetch, **NAMES)
    return run_virtually(verifier.verify(token))


# How each kind is read, and a good one of it.
KINDS: dict[str, tuple[Callable[[Any], Verified], str]] = {
    "signed": (SIGNED.verify, SIGNED.sign({"user_id": 7})),
    "encrypted": (ENCRYPTED.decrypt, ENCRYPTED.encrypt({"user_id": 7})),
    "signed by Phoenix": (PHOENIX.verify, PHOENIX.sign({"user_id": 7})),
    "encrypted by Phoenix": (PHOENIX.decrypt, PHOENIX.encrypt({"user_id": 7})),
    "HS256": (
        JWTVerifier(SECRET, algorithm="HS256", **NAMES).verify,
        made("HS256", CLAIMS, SECRET.encode()),
    ),
    **{
        algorithm: (
            JWTVerifier(public_pem(KEYS.of(algorithm)), algorithm=algorithm, **NAMES).verify,
            made(algorithm, CLAIMS, KEYS.of(algorithm)),
        )
        for algorithm in ("RS256", "ES256", "EdDSA")
    },
    "of a key set": (by_key_set, made({"alg": "ES256", "kid": "ES256"}, CLAIMS, KEYS.ec)),
}
of_each_kind = pytest.mark.parametrize(
    ("read", "good"), list(KINDS.values()), ids=[name.replace(" ", "_") for name in KINDS]
)

letters = string.ascii_letters + string.digits + "-_.=+/ \n\0"
parts = st.one_of(
    st.text(letters, max_size=60),
    st.binary(max_size=60).map(base64url),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["alg", "enc", "kid", "crit", "b64", "zip", "typ", "jwk", "x"]),
                inner | st.sampled_from(["HS256", "RS256", "none", "dir", "A256GCM", "DEF"]),
                max_size=4,
            )
        ),
        max_leaves=6,
    ).map(lambda value: base64url(json.dumps(value).encode())),
    st.sampled_from(
        [
            "",
            "XCP",
            "SFMyNTY",
            "QTEyOEdDTQ",
            *[KINDS["signed"][1].split(".")[0]],
            "eyJhbGciOiJub25lIn0",
        ]
    ),
)


@of_each_kind
@LAW
@given(token=st.lists(parts, max_size=7).map(".".join))
@example(token="")
@example(token="." * SIZE)
@example(token="A" * SIZE)
def test_fuzz_of_anything(read: Callable[[Any], Verified], good: str, token: str):
    """Parts that look like a token's in any order: refused."""
    with pytest.raises(TokenError):
        read(token)


@of_each_kind
@LAW
@given(data=st.data())
def test_fuzz_of_good_tokens(read: Callable[[Any], Verified], good: str, data: st.DataObject):
    """A good token with anything changed, cut, doubled or moved is refused."""
    token = good
    for _ in range(data.draw(st.integers(1, 3))):
        first, second = sorted(data.draw(st.tuples(*[st.integers(0, len(token))] * 2)))
        match data.draw(st.sampled_from(["cut", "double", "put", "swap"])):
            case "cut":
                token = token[:first] + token[second:]
            case "double":
                token = token[:second] + token[first:second] + token[second:]
            case "put":
                token = token[:first] + data.draw(st.text(letters, max_size=4)) + token[second:]
            case _:
                token = token[second:] + token[first:second] + token[:first]
    if token == good:
        assert isinstance(read(token), Verified)
    else:
        with pytest.raises(TokenError):
            read(token)


@LAW
@given(content=st.binary(max_size=300), data=st.sampled_from([b"", integer(7), atom("a")]))
def test_fuzz_of_what_a_phoenix_says(content: bytes, data: bytes):
    """Whatever a token with a good signature carries, it is data or refused."""
    key = phoenix_rules.derived(SECRET.encode(), b"socket")
    for message in (content, term(content), term(tuple_(data, content, integer(60)))):
        try:
            read = PHOENIX.verify(phoenix_rules.signed(message, key))
        except TokenError:
            continue
        assert isinstance(read, Verified)


@of_each_kind
def test_the_worst_is_bounded(read: Callable[[Any], Verified], good: str):
    """The longest tokens, of whatever shape, cost a few milliseconds each."""
    head, _, rest = good.partition(".")
    worst = [
        "." * SIZE,
        "A" * SIZE,
        (head + "." + "A" * SIZE)[:SIZE],
        (head + "." * SIZE)[:SIZE],
        (good + "A" * SIZE)[:SIZE],
        (head + "." + "A" * (SIZE - len(good)) + rest)[:SIZE],
        base64url(b"[" * 6144)[:SIZE],
        base64url(b'{"alg":' + b"[" * 6100)[:SIZE],
        base64url(b'{"alg":"HS256","kid":' + b"9" * 6000 + b"}") + "..",
    ]
    for token in worst:
        start = time.perf_counter()
        with pytest.raises(TokenError):
            read(token)
        assert time.perf_counter() - start < 0.2
