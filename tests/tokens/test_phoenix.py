"""Tokens of Phoenix: group TOK of the conformance inventory, fixed vectors, and what is refused."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from roost import Channel, ConnectInfo, Endpoint, Socket, event
from roost.exceptions import (
    ConfigurationError,
    TermError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from roost.testing import ChannelCase
from roost.tokens import Atom, PhoenixTokens, Verified
from tests.tokens import phoenix_rules
from tests.tokens.clock import Clock
from tests.tokens.erlang import atom, binary, integer, list_, map_, old_atom, term, tuple_
from tests.virtual_clock import virtually

BASE = "a secret key base of sixty-four bytes, as mix phx.gen.secret makes"
SIGNED_AT = 1_700_000_000  # when the fixed tokens were made
NONCE = bytes(range(24))


class Way(NamedTuple):
    """Signing and verifying, or encrypting and decrypting: the same rules hold for both."""

    make: Callable[..., str]
    read: Callable[..., Verified]


def way(kind: str, base: Any = BASE, **options: Any) -> Way:
    options = {"salt": "id", **options}
    tokens = PhoenixTokens(base, **options)
    if kind == "signed":
        return Way(tokens.sign, tokens.verify)
    return Way(tokens.encrypt, tokens.decrypt)


both = pytest.mark.parametrize("kind", ["signed", "encrypted"])


# The lines of the inventory.


@pytest.mark.conforms("TOK-1", "TOK-12")
@both
def test_a_key_base_and_a_salt(kind: str):
    """What is made with a key base and a salt is read with them."""
    make, read = way(kind)

    assert read(make(1)).data == 1


@pytest.mark.conforms("TOK-2", "TOK-13")
@both
async def test_in_views_of_an_application(kind: str):
    """One view makes tokens, another reads them: the object is there, no connection is needed."""
    make, read = way(kind)

    async def log_in(request: Request) -> JSONResponse:
        return JSONResponse({"token": make(request.path_params["user"])})

    async def who(request: Request) -> JSONResponse:
        return JSONResponse({"user": read(request.headers.get("x-token")).data})

    app = Starlette(routes=[Route("/login/{user}", log_in), Route("/who", who)])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://test"
    ) as browser:
        token = (await browser.get("/login/alice")).json()["token"]
        assert (await browser.get("/who", headers={"x-token": token})).json() == {"user": "alice"}


@pytest.mark.conforms("TOK-3", "TOK-14")
@both
@virtually
async def test_in_sockets_and_channels(kind: str):
    """A socket reads the token of a view; a channel of it makes another one."""
    make, read = way(kind)

    class RoomChannel(Channel):
        @event("renew")
        def renew(self, payload: object) -> dict[str, str]:
            return {"token": make(self.assigns["user_id"])}

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        def connect(self, params: object, info: ConnectInfo) -> None:
            self.assigns["user_id"] = read(info.auth_token).data

    async with ChannelCase(Endpoint({})) as case:
        alice = await case.connect(UserSocket, {}, ConnectInfo(auth_token=make("alice")))
        room = await alice.join("room:1")
        reply = await room.assert_reply(room.push("renew"), "ok")
        assert read(reply["token"]).data == "alice"


@pytest.mark.conforms("TOK-4", "TOK-15")
@both
def test_no_token_is_missing(kind: str):
    """None is no token; text without anything in it is a bad one."""
    _, read = way(kind)

    with pytest.raises(TokenMissing):
        read(None)
    with pytest.raises(TokenInvalid):
        read("")


@pytest.mark.conforms("TOK-5", "TOK-16")
@both
def test_garbage_and_tokens_of_others_are_invalid(kind: str):
    """What is no token, of another salt, of another key base, or of the other kind is invalid."""
    make, read = way(kind)
    others = [
        "garbage",
        way(kind, salt="gone").make(1),
        way(kind, base=BASE[::-1]).make(1),
        way("encrypted" if kind == "signed" else "signed").make(1),
    ]

    assert read(make(1)).data == 1
    for token in others:
        with pytest.raises(TokenInvalid):
            read(token)


@pytest.mark.conforms("TOK-6", "TOK-17")
@both
def test_the_maximum_age(kind: str, clock: Clock):
    """A token may be so many seconds old, and no older; none at all is too old at once."""
    make, read = way(kind)
    token = make(1)

    assert read(token, max_age=1000).data == 1
    for max_age in (0, -0.5, -1000):
        with pytest.raises(TokenExpired):
            read(token, max_age=max_age)
    clock.advance(0.5)
    assert read(token, max_age=0.5).data == 1
    with pytest.raises(TokenExpired) as expired:
        read(token, max_age=0.25)
    assert expired.value.expired_at == clock.now - 0.25


@pytest.mark.conforms("TOK-7", "TOK-18")
@both
def test_the_maximum_age_of_the_token_itself(kind: str, clock: Clock):
    """It is that of its maker, a day by default; infinite is for ever, said on either side."""
    make, read = way(kind)
    short, daily, eternal = make(1, max_age=0.5), make(1), make(1, max_age=math.inf)

    assert read(eternal).expires_at == math.inf
    clock.advance(1)
    with pytest.raises(TokenExpired):
        read(short)
    assert read(short, max_age=math.inf).expires_at == math.inf
    clock.advance(86_399)
    assert read(daily).expires_at == clock.now
    clock.advance(0.001)
    with pytest.raises(TokenExpired):
        read(daily)
    clock.advance(1e9)
    assert read(eternal).data == 1
    with pytest.raises(TokenExpired):
        read(eternal, max_age=1e9)


@pytest.mark.conforms("TOK-8", "TOK-19")
@both
def test_the_time_that_it_is_made_at(kind: str, clock: Clock):
    """It may be given, in seconds; from then on the token ages."""
    make, read = way(kind)
    token = make(1, signed_at=clock.now - 10.5)

    assert read(token, max_age=11).signed_at == clock.now - 10.5
    with pytest.raises(TokenExpired):
        read(token, max_age=10)


@pytest.mark.conforms("TOK-9", "TOK-20")
@both
def test_the_iterations_change_the_key(kind: str):
    """Tokens made with other iterations are others, and not read."""
    one, other = way(kind, key_iterations=1), way(kind, key_iterations=2)

    assert one.make(1, signed_at=0) != other.make(1, signed_at=0)
    with pytest.raises(TokenInvalid):
        other.read(one.make(1))


@pytest.mark.conforms("TOK-10", "TOK-21")
@both
def test_the_digest_changes_the_key(kind: str):
    """Tokens made with another digest are others, and not read."""
    one, other = way(kind, key_digest="sha256"), way(kind, key_digest="sha512")

    assert one.make(1, signed_at=0) != other.make(1, signed_at=0)
    with pytest.raises(TokenInvalid):
        other.read(one.make(1))


@pytest.mark.conforms("TOK-11")
def test_a_key_is_32_bytes_of_pbkdf2_by_default():
    """A key is 32 bytes of PBKDF2 with SHA-256 and 1,000 iterations."""
    said = {"key_length": 32, "key_digest": "sha256", "key_iterations": 1000}

    assert way("signed").make(1, signed_at=0) == way("signed", **said).make(1, signed_at=0)
    assert way("signed").read(way("signed", **said).make(1)).data == 1


# Fixed vectors: each was compared with what Phoenix's own code makes, or reads.


class Vector(NamedTuple):
    """A token of Phoenix.

    Args:
        options: Of the key.
        data: What it says.
        written: The data as a term, written by hand.
        signed_at_ms: When it was made.
        max_age: Its maximum age, as a term written by hand.
        expires_at: What that means.
        signed: The token.
        encrypted: The same, encrypted with a nonce that counts from 0 to 23.
    """

    options: dict[str, Any]
    data: Any
    written: bytes
    signed_at_ms: int
    max_age: bytes
    expires_at: float
    signed: str
    encrypted: str


VECTORS = [
    Vector(
        {"salt": "user socket"},
        7,
        integer(7),
        SIGNED_AT * 1000,
        integer(86400),
        SIGNED_AT + 86400,
        "SFMyNTY.g2gDYQduBgAAaOXPiwFiAAFRgA.pjAMceRi8Ct_1p_hLhirVQ03ANWLUWL3P3kW5-tBg0c",
        "XCP.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXlSCOmJqLYTvWCV7ljw0sTeUIAgRaJqKC6vcwp9Zq6pYOeSY",
    ),
    Vector(
        {"salt": "user socket"},
        "ünïcode",
        binary("ünïcode".encode()),
        SIGNED_AT * 1000 + 123,
        integer(60),
        SIGNED_AT + 60.123,
        "SFMyNTY.g2gDbQAAAAnDvG7Dr2NvZGVuBgB7aOXPiwFhPA."
        "5iPB6h8-j2cE5QSySNjJerIMDipcJi0wJ2zjkWr27j0",
        "XCP.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXc_LklOlUQcjcCh6ua8_v3-UIAghdSKSLKSO7q_II5_JqRqApVhWC"
        "L910WlI",
    ),
    Vector(
        {"salt": "user auth"},
        {Atom("user_id"): 7, Atom("roles"): [Atom("admin"), "x"]},
        map_(
            (atom("user_id"), integer(7)),
            (atom("roles"), list_(atom("admin"), binary(b"x"))),
        ),
        SIGNED_AT * 1000,
        atom("infinity"),
        math.inf,
        "SFMyNTY.g2gDdAAAAAJ3B3VzZXJfaWRhB3cFcm9sZXNsAAAAAncFYWRtaW5tAAAAAXhqbgYAAGjlz4sBdwhpbmZp"
        "bml0eQ.w8tfwr_M2-Kw4N9TLyQLDAd681ydcOy21enJ4QcZLAs",
        "XCP.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXmFtGn9lfmjTQEbHvRT0fc0PQd9oIiH-tyAcn_pGR9uDjkQIVQqh7"
        "916K76BC-iI9xMrCxp61hTWtwppFqMIJzEtODf3XuXANrglpm_qy_VU",
    ),
    Vector(
        {"salt": "user auth", "key_iterations": 2000, "key_digest": "sha512"},
        (Atom("ok"), None, True),
        tuple_(atom("ok"), atom("nil"), atom("true")),
        SIGNED_AT * 1000,
        b"F" + struct.pack(">d", 0.5),
        SIGNED_AT + 0.5,
        "SFMyNTY.g2gDaAN3Am9rdwNuaWx3BHRydWVuBgAAaOXPiwFGP-AAAAAAAAA."
        "fhbqVTuuhgtgSEydL3A-08_OMZtXdRgJ-2NKjcdCPLQ",
        "XCP.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXikLeGhAaOJsC0DvQDaWMNgWr-pqbCPkm532rPLPSVaxiKzLnw-GE"
        "UhimxHMppVy2AkvYBSA0",
    ),
    Vector(
        {"secret_key_base": BASE[::-1], "salt": "s"},
        [-1, 2**64, 1.5],
        list_(integer(-1), integer(2**64), b"F" + struct.pack(">d", 1.5)),
        SIGNED_AT * 1000,
        integer(86400),
        SIGNED_AT + 86400,
        "SFMyNTY.g2gDbAAAAANi_____24JAAAAAAAAAAAAAUY_-AAAAAAAAGpuBgAAaOXPiwFiAAFRgA."
        "zpcSv3GByL9R6JS-JvXSXo4HCNt1m7fL1YgYhLrQUs0",
        "XCP.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGPBdPUz8VUKZ45HcWUD6NuKI893ldHAUxzDMYuc4xR3caiwbkxNg"
        "8fnDHJ0ODbHkRSjRanAlbVxkI_nXkgg2YGQ",
    ),
]
vectors = pytest.mark.parametrize("vector", VECTORS)


def key_of(vector: Vector) -> bytes:
    options = dict(vector.options)
    base = options.pop("secret_key_base", BASE)
    salt = options.pop("salt")
    names = {"key_iterations": "iterations", "key_digest": "digest", "key_length": "length"}
    return phoenix_rules.derived(
        base.encode(), salt.encode(), **{names[name]: each for name, each in options.items()}
    )


def tokens_of(vector: Vector) -> PhoenixTokens:
    return PhoenixTokens(**{"secret_key_base": BASE, **vector.options})


@vectors
def test_the_vectors_are_what_the_rules_make(vector: Vector):
    """The fixed tokens follow from the rules, which are stated here a second time."""
    message = tuple_(vector.written, integer(vector.signed_at_ms), vector.max_age)

    assert phoenix_rules.signed(term(message), key_of(vector)) == vector.signed
    assert phoenix_rules.encrypted(term(message), key_of(vector), NONCE) == vector.encrypted


@vectors
def test_tokens_of_phoenix_are_read(vector: Vector, clock: Clock):
    """What Phoenix made is good here, until it expires."""
    tokens = tokens_of(vector)
    for read, token in ((tokens.verify, vector.signed), (tokens.decrypt, vector.encrypted)):
        clock.now = vector.signed_at_ms / 1000
        said = Verified(vector.data, vector.signed_at_ms / 1000, vector.expires_at)
        assert read(token) == said
        if vector.expires_at != math.inf:
            clock.now = vector.expires_at + 0.01
            with pytest.raises(TokenExpired):
                read(token)
            assert read(token, max_age=math.inf).data == vector.data


@vectors
def test_tokens_are_made_as_phoenix_makes_them(vector: Vector, monkeypatch: pytest.MonkeyPatch):
    """Signed ones are the same to the byte; encrypted ones, too, with the same nonce."""
    monkeypatch.setattr("secrets.token_bytes", lambda size: NONCE[:size])
    tokens, signed_at = tokens_of(vector), vector.signed_at_ms / 1000
    max_age = vector.expires_at - signed_at
    options = {"signed_at": signed_at, "max_age": round(max_age, 3)}

    assert tokens.sign(vector.data, **options) == vector.signed
    assert tokens.encrypt(vector.data, **options) == vector.encrypted


@pytest.mark.parametrize(
    ("name", "digest"), [("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")]
)
def test_signatures_of_all_sizes_are_read(name: str, digest: str):
    """Phoenix verifies by the algorithm that the token names, one of three: so do we."""
    key = phoenix_rules.derived(BASE.encode(), b"id")
    message = term(tuple_(integer(7), integer(0), atom("infinity")))
    token = phoenix_rules.signed(message, key, name=name, digest=digest)

    assert way("signed").read(token).data == 7
    for other in ("none", "HS1", "RS256", "hs256"):
        with pytest.raises(TokenInvalid):
            way("signed").read(phoenix_rules.signed(message, key, name=other, digest=digest))


@pytest.mark.parametrize(
    "message",
    [
        tuple_(integer(7), integer(0)),
        map_((atom("data"), integer(7)), (atom("signed"), integer(0))),
        map_((old_atom("signed"), integer(0)), (old_atom("data"), integer(7))),
    ],
)
def test_what_phoenix_wrote_long_ago(message: bytes):
    """Older releases wrote no maximum age, a day is meant; the oldest wrote a map."""
    token = phoenix_rules.signed(term(message), phoenix_rules.derived(BASE.encode(), b"id"))

    assert way("signed").read(token, max_age=math.inf).data == 7
    with pytest.raises(TokenExpired) as expired:
        way("signed").read(token)
    assert expired.value.expired_at == 86400


OLD_ENCRYPTED = (
    # Made by plug_crypto 1.2.5: %{user_id: 7}, with keys of 32 and of 16 bytes.
    (
        32,
        "QTEyOEdDTQ.1kEQA6Pru5BTfd8kj6YYChCe9IPasuYRVqwOGdSM29ld9vet6hfn2NHWcb0.3GTOo3LTfCxqN"
        "Ypp.bq0-kbyjf0k1hKxjbs7c_SZCyAr-xhnNBIRnR9evifdVXg.PLm96KGplk7UF6xQsmKXNQ",
    ),
    (
        16,
        "QTEyOEdDTQ.Phts2Gsp48nqDg-Ju3WVGCAO8MPMHAifSYBVhqnEH9PcDZ0wo0GRy_euPZk.WQeatFcM1duLj"
        "jVg.3zRwTKER6TZoxfRwyg0ySAas_he73dPR9in9HMjGgOnxCg.fI_EVTNHmmJMsxWNGrhP4Q",
    ),
)


@pytest.mark.parametrize(("key_length", "token"), OLD_ENCRYPTED)
def test_what_older_phoenix_encrypted_is_decrypted(key_length: int, token: str):
    """plug_crypto 1 wrapped a key of AES for each token; Phoenix still reads that, and we do."""
    tokens = PhoenixTokens(BASE, salt="salt", key_length=key_length)

    assert tokens.decrypt(token, max_age=math.inf).data == {"user_id": 7}
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(TokenInvalid):
            tokens.decrypt(changed, max_age=math.inf)


# Rotation.


@both
def test_the_first_secret_makes_tokens_and_all_are_read(kind: str):
    """The first of them makes tokens, all of them are read: so that they can be rotated."""
    old, new = "the secret of last year, long enough", "the secret of this year, long enough"
    before, during, after = way(kind, old), way(kind, [new, old]), way(kind, [new])

    assert during.read(before.make("alice")).data == "alice"
    assert after.read(during.make("alice")).data == "alice"
    with pytest.raises(TokenInvalid):
        after.read(before.make("alice"))
    with pytest.raises(TokenInvalid):
        before.read(during.make("alice"))


# What is refused.


@both
def test_whatever_is_changed_is_invalid(kind: str):
    """No character of a token can be another one, none can be left out, none can be added."""
    make, read = way(kind)
    token = make({"user_id": 7})
    for place in range(len(token)):
        for other in ("A", "B", "_", ".", "=", "+", "\n", " ", ""):
            changed = token[:place] + other + token[place + 1 :]
            if changed != token:
                with pytest.raises(TokenInvalid):
                    read(changed)
    for added in ("A", "=", ".", ".A", "\n"):
        for changed in (token + added, added + token):
            with pytest.raises(TokenInvalid):
                read(changed)


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


@pytest.mark.parametrize(
    "message",
    [
        integer(7),
        tuple_(integer(7)),
        list_(integer(7), integer(0), atom("infinity")),
        tuple_(integer(7), atom("nil"), integer(60)),
        tuple_(integer(7), integer(0), atom("true")),
        tuple_(integer(7), integer(0), binary(b"infinity")),
        tuple_(integer(7), integer(2**64), integer(60)),
        tuple_(integer(7), integer(0), integer(2**2000)),
        tuple_(b"g" + bytes(20), integer(0), atom("infinity")),
        map_((atom("data"), integer(7))),
    ],
)
def test_a_good_signature_on_nonsense(message: bytes):
    """A token that Phoenix would crash at, or that carries what is not read, is invalid."""
    token = phoenix_rules.signed(term(message), phoenix_rules.derived(BASE.encode(), b"id"))

    with pytest.raises(TokenInvalid, match="can't be read"):
        way("signed").read(token)


@both
def test_tokens_from_the_future(kind: str, clock: Clock):
    """Clocks may differ by the leeway; what was made later than that is invalid."""
    make, read = way(kind, leeway=2.0)

    assert read(make(1, signed_at=clock.now + 2)).data == 1
    with pytest.raises(TokenInvalid, match="clocks"):
        read(make(1, signed_at=clock.now + 3))


@both
def test_what_can_not_be_made(kind: str):
    """Data that is no term, or too much of it, is refused where it is given."""
    make, _ = way(kind)
    for data in ({1, 2}, object(), math.nan, "\ud800", [[]] * 9000, 2**2048):
        with pytest.raises(TermError):
            make(data)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"secret_key_base": "nineteen bytes long"}, "can be guessed"),
        ({"secret_key_base": []}, "one to 16 secrets"),
        ({"secret_key_base": None}, "secret_key_base"),
        ({"secret_key_base": [None]}, "environment variable"),
        ({"salt": ""}, "salt"),
        ({"salt": None}, "salt"),
        ({"key_iterations": 0}, "key_iterations"),
        ({"key_length": 0}, "key_length"),
        ({"key_digest": "md5"}, "key_digest"),
        ({"max_age": math.nan}, "max_age"),
        ({"leeway": -1.0}, "leeway"),
        ({"max_size": 0}, "max_size"),
    ],
)
def test_options_that_can_not_work(options: dict[str, Any], complaint: str):
    """They are named where they are given."""
    with pytest.raises(ConfigurationError, match=complaint):
        PhoenixTokens(**{"secret_key_base": BASE, "salt": "id", **options})


def test_encryption_needs_keys_of_its_size():
    """Phoenix encrypts with 32 bytes only, and decrypts with what AES has."""
    long = way("encrypted", key_length=64)

    with pytest.raises(ConfigurationError, match="needs 32"):
        long.make(1)
    with pytest.raises(ConfigurationError, match="16, 24 or 32"):
        long.read("XCP.AAAA")
    with pytest.raises(TokenInvalid):
        way("encrypted", key_length=16).read(way("encrypted").make(1))


def test_signing_is_quick_once_the_key_is_there():
    """The key is derived once, not for each token: of a million iterations that would be felt."""
    tokens = way("signed", key_iterations=1_000_000)
    start = time.perf_counter()
    for _ in range(100):
        tokens.read(tokens.make(1))

    assert time.perf_counter() - start < 1.0
