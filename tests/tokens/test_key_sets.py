"""JWTs of an identity provider: when its keys are fetched, and what is done without them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roost.exceptions import ConfigurationError, KeysUnavailable, TokenInvalid, TokenMissing
from roost.tokens import JWKSVerifier
from roost.tokens.key_sets import FETCH_INTERVAL, FRESH_PERIOD, MAX_DOCUMENT_SIZE, STALE_PERIOD
from tests.servers import run_uvicorn
from tests.tokens.jwts import Keys, base64url, made, public_jwk, public_pem
from tests.virtual_clock import run_virtually, virtually

URL = "https://id.example.com/keys"
ISSUER = "https://id.example.com"
KEYS, NEW_KEYS = Keys(), Keys()


class Provider:
    """An identity provider, as far as it is here.

    Attributes:
        entries: Of its key set.
        fetch_count: How many times it was asked.
        seconds: How long it takes to answer.
        answer: What it answers, or raises, in place of the key set.
    """

    def __init__(self, *entries: Any) -> None:
        self.entries: list[Any] = list(entries) or [public_jwk(KEYS.rsa, kid="1")]
        self.fetch_count = 0
        self.seconds = 0.0
        self.answer: Any = None

    async def fetch(self, url: str) -> bytes:
        self.fetch_count += 1
        await asyncio.sleep(self.seconds)
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is not None:
            return self.answer  # type: ignore[no-any-return]
        return json.dumps({"keys": self.entries}).encode()

    def verifier(self, **options: Any) -> JWKSVerifier:
        options = {"issuer": ISSUER, "audience": "roost", "fetch": self.fetch, **options}
        return JWKSVerifier(URL, **options)


def token(key_id: str | None = "1", key: Any = KEYS.rsa, algorithm: str = "RS256") -> str:
    now = time.time()
    header = {"alg": algorithm} if key_id is None else {"alg": algorithm, "kid": key_id}
    return made(header, {"iss": ISSUER, "aud": "roost", "sub": "alice", "exp": now + 600}, key)


async def is_good(verifier: JWKSVerifier, given: str) -> bool:
    try:
        return bool((await verifier.verify(given)).data["sub"] == "alice")
    except TokenInvalid:
        return False


# What is good.


@pytest.mark.parametrize(
    ("algorithm", "name"), [("RS256", "RS256"), ("ES256", "ES256"), ("EdDSA", "Ed25519")]
)
@virtually
async def test_keys_of_each_type(algorithm: str, name: str):
    """A token is good by the key that it names, or by any of the algorithm if it names none."""
    entries = [public_jwk(KEYS.of(each), kid=each) for each in ("RS256", "ES256", "EdDSA")]
    verifier = Provider(*entries).verifier()
    for given in (algorithm, name):
        key = KEYS.of(algorithm)
        assert await is_good(verifier, token(algorithm, key, given))
        assert await is_good(verifier, token(None, key, given))
        assert not await is_good(verifier, token("another", key, given))
        assert not await is_good(verifier, token(algorithm, NEW_KEYS.of(algorithm), given))


@virtually
async def test_no_token_is_missing():
    """None is no token, and nothing is fetched for it; nor for what is no JWT."""
    provider = Provider()
    verifier = provider.verifier()
    with pytest.raises(TokenMissing):
        await verifier.verify(None)
    for bad in ("", "a.b.c", "a" * 8193, made("HS256", {}, b"secret"), made("none", {}, None)):
        with pytest.raises(TokenInvalid):
            await verifier.verify(bad)

    assert provider.fetch_count == 0


@virtually
async def test_claims_are_checked():
    """The issuer and the audience have to be those that were said."""
    provider = Provider()

    assert await is_good(provider.verifier(), token())
    assert not await is_good(provider.verifier(issuer="https://evil.example.com"), token())
    assert not await is_good(provider.verifier(audience=["another"]), token())


# What is not.


@virtually
async def test_a_public_key_is_no_secret():
    """Neither one of the set taken as a secret, nor a secret in the set."""
    secret = b"0123456789abcdef" * 2
    shared = {"kty": "oct", "k": base64url(secret), "kid": "2", "alg": "HS256"}
    verifier = Provider(public_jwk(KEYS.rsa, kid="1"), shared).verifier()
    for key_id, key in (
        ("1", public_pem(KEYS.rsa)),
        ("1", json.dumps(public_jwk(KEYS.rsa)).encode()),
        ("2", secret),
        (None, secret),
    ):
        assert not await is_good(verifier, token(key_id, key, "HS256"))


@virtually
async def test_a_key_is_for_one_algorithm():
    """The one that its entry says, or that of its type; and only those that we take."""
    entries = [
        public_jwk(KEYS.rsa, kid="wrong", alg="PS256"),
        public_jwk(KEYS.rsa, kid="enc", use="enc"),
        public_jwk(KEYS.rsa, kid="ops", key_ops=["encrypt"]),
        public_jwk(KEYS.ec, kid="ec", alg="ES256", use="sig", key_ops=["verify"]),
    ]
    verifier = Provider(*entries).verifier()

    assert await is_good(verifier, token("ec", KEYS.ec, "ES256"))
    for key_id in ("wrong", "enc", "ops", None):
        assert not await is_good(verifier, token(key_id))
    only_rsa = Provider(public_jwk(KEYS.rsa, kid="1"), *entries).verifier(algorithms=["RS256"])
    assert await is_good(only_rsa, token())
    assert not await is_good(only_rsa, token("ec", KEYS.ec, "ES256"))


@virtually
async def test_entries_that_are_broken_are_passed_over():
    """One bad key does not take the others with it."""
    good = public_jwk(KEYS.rsa, kid="1")
    entries: list[Any] = [
        None,
        7,
        [],
        {},
        {"kty": "new"},
        {**good, "n": "AQAB"},
        {**good, "n": 7},
        {**good, "n": "not base64!"},
        {**good, "kid": 7},
        {**good, "key_ops": 7},
        {**good, "alg": ["RS256"]},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "1"},
        {"kty": "OKP", "crv": "X25519", "x": base64url(bytes(32)), "kid": "1"},
        good,
    ]

    assert await is_good(Provider(*entries).verifier(), token())


# When keys are fetched.


@virtually
async def test_many_who_come_at_once_share_a_fetch():
    """A thousand tokens after a restart are one request."""
    provider = Provider()
    provider.seconds = 1.0
    verifier, given = provider.verifier(), token()
    results = await asyncio.gather(*[is_good(verifier, given) for _ in range(1000)])

    assert all(results)
    assert provider.fetch_count == 1


@virtually
async def test_who_is_cancelled_takes_nobody_along():
    """A client that goes while the keys come does not end the fetch for the others."""
    provider = Provider()
    provider.seconds = 1.0
    verifier = provider.verifier()
    one, other = (asyncio.create_task(verifier.verify(token())) for _ in range(2))
    await asyncio.sleep(0.5)
    one.cancel()

    assert (await other).data["sub"] == "alice"
    assert one.cancelled()
    assert provider.fetch_count == 1


@virtually
async def test_a_new_key_is_fetched_when_it_is_used():
    """A token of a key that is not known asks for the set again, once for all who have it."""
    provider = Provider()
    verifier = provider.verifier()
    assert await is_good(verifier, token())
    await asyncio.sleep(FETCH_INTERVAL)
    provider.entries.append(public_jwk(NEW_KEYS.rsa, kid="2"))

    given = token("2", NEW_KEYS.rsa)
    assert all(await asyncio.gather(*[is_good(verifier, given) for _ in range(10)]))
    assert await is_good(verifier, token())
    assert provider.fetch_count == 2


@virtually
async def test_made_up_names_of_keys_cost_the_provider_little():
    """Whatever names a stranger makes up, it is one request in ten seconds; others go on."""
    provider = Provider()
    verifier = provider.verifier()
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    number = 0
    while loop.time() - started_at < 60:
        number += 1
        assert not await is_good(verifier, token(f"made up {number}"))
        await asyncio.sleep(0.25)

    assert await is_good(verifier, token())
    assert provider.fetch_count == 6


@virtually
async def test_keys_are_fetched_anew_beside():
    """After a while the set is asked for again, and nobody waits for that."""
    provider = Provider()
    verifier = provider.verifier()
    await verifier.verify(token())
    provider.seconds = 4.0
    provider.entries = [public_jwk(NEW_KEYS.rsa, kid="1")]
    await asyncio.sleep(FRESH_PERIOD - 1)
    assert await is_good(verifier, token())
    assert provider.fetch_count == 1

    await asyncio.sleep(1)
    before = asyncio.get_running_loop().time()
    assert await is_good(verifier, token())
    assert asyncio.get_running_loop().time() == before
    await asyncio.sleep(5)
    assert provider.fetch_count == 2
    assert not await is_good(verifier, token())  # the provider has taken it back
    assert await is_good(verifier, token("1", NEW_KEYS.rsa))


FAILURES = [
    OSError("connection refused"),
    RuntimeError(),
    TimeoutError("late"),
    b"",
    b"<html>",
    b"\xff",
    b"[]",
    b"7",
    b"{}",
    b'{"keys": {}}',
    b'{"keys": []}',
    b'{"keys": [{"kty": "oct", "k": "AAAA"}]}',
    json.dumps({"keys": [{"kty": "EC"}] * 101}).encode(),
    b"[" * 100_000,
    b" " * (MAX_DOCUMENT_SIZE + 1),
    "text",
    7,
]


@pytest.mark.parametrize("answer", FAILURES, ids=lambda answer: repr(answer)[:30])
@virtually
async def test_without_keys_it_is_not_the_tokens_fault(answer: Any, caplog: Any):
    """Whatever the provider does, or the fetch: an error of its own, and no storm of requests."""
    provider = Provider()
    provider.answer = answer
    verifier = provider.verifier()
    with caplog.at_level(logging.WARNING, "roost.tokens"):
        for _ in range(10):
            with pytest.raises(KeysUnavailable, match=URL):
                await verifier.verify(token())
        assert provider.fetch_count == 1
        assert len(caplog.records) == 1

    provider.answer = None
    await asyncio.sleep(FETCH_INTERVAL)
    assert await is_good(verifier, token())


@virtually
async def test_a_provider_that_hangs():
    """A fetch is given up, and who waited is told."""
    provider = Provider()
    provider.seconds = 1e6
    verifier = provider.verifier(timeout=2.0)
    before = asyncio.get_running_loop().time()
    with pytest.raises(KeysUnavailable, match=r"no answer in 2\.0 s"):
        await verifier.verify(token())

    assert asyncio.get_running_loop().time() - before == 2


@pytest.mark.parametrize("answer", FAILURES, ids=lambda answer: repr(answer)[:30])
@virtually
async def test_known_keys_outlive_the_provider_for_a_day(answer: Any):
    """While no good set comes the known keys are used; not for ever, as one may be taken back."""
    provider = Provider()
    verifier = provider.verifier()
    await verifier.verify(token())
    provider.answer = answer
    for _ in range(23):
        await asyncio.sleep(3600)
        assert await is_good(verifier, token())
    await asyncio.sleep(1)
    assert provider.fetch_count == 24
    with pytest.raises(KeysUnavailable):  # it may be a new one: nobody can say
        await verifier.verify(token("unknown"))

    await asyncio.sleep(STALE_PERIOD - 23 * 3600)
    with pytest.raises(KeysUnavailable):
        await verifier.verify(token())
    provider.answer = None
    await asyncio.sleep(FETCH_INTERVAL)
    assert await is_good(verifier, token())


def test_each_event_loop_fetches_its_own():
    """A verifier of a module is used by one run after the other, as tests have them."""
    provider = Provider()
    verifier = provider.verifier()
    for _ in range(2):
        assert run_virtually(is_good(verifier, token()))

    assert provider.fetch_count == 2


def test_a_run_that_ends_while_keys_come():
    """The fetch ends with its loop, and the next one starts anew."""
    provider = Provider()
    provider.seconds = 1e6
    verifier = provider.verifier(timeout=60.0)

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(verifier.verify(token()), 1)

    run_virtually(impatient())
    provider.seconds = 0.0
    assert run_virtually(is_good(verifier, token()))


# The fetch that is there by itself.


@asynccontextmanager
async def served(
    status: int, *chunks: bytes, every: float = 0.0, **headers: str
) -> AsyncIterator[str]:
    """A server that answers so, but has a good key set at ``/good``; yields the address."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/good":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": DOCUMENT})
            return
        start = {"type": "http.response.start", "status": status}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({**start, "headers": pairs})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(every)
        await send({"type": "http.response.body"})

    async with run_uvicorn(app, lifespan="off") as url:
        yield f"{url}/keys"


def verifier_at(url: str, **options: Any) -> JWKSVerifier:
    return JWKSVerifier(url, issuer=ISSUER, audience="roost", **options)


DOCUMENT = json.dumps({"keys": [public_jwk(KEYS.rsa, kid="1")]}).encode()


async def test_key_sets_are_fetched_by_the_standard_library_by_default():
    """Without a fetch of the application's it is done by the standard library."""
    async with served(200, DOCUMENT[:50], DOCUMENT[50:]) as url:
        assert await is_good(verifier_at(url), token())


@pytest.mark.parametrize(
    ("status", "chunks", "headers"),
    [
        (404, [DOCUMENT], {}),
        (500, [], {}),
        (302, [], {"location": "/keys"}),
        (302, [], {"location": "/good"}),
        (307, [], {"location": "/good"}),
        (301, [], {"location": "file:///etc/passwd"}),
        (200, [b" " * 65536] * 5, {}),
        (200, [b"<html>"], {}),
    ],
)
async def test_answers_that_are_no_key_set(status: int, chunks: Any, headers: Any):
    """Errors, redirects, and what is too large are not taken."""
    async with served(status, *chunks, **headers) as url:
        with pytest.raises(KeysUnavailable):
            await verifier_at(url).verify(token())


async def test_a_server_that_dribbles():
    """A byte at a time keeps nobody waiting beyond the timeout, nor its thread."""
    async with served(200, *[b" "] * 30, every=0.05) as url:
        with pytest.raises(KeysUnavailable, match="no answer"):
            await verifier_at(url, timeout=0.3).verify(token())


async def test_a_server_that_is_not_there():
    """The reason is said."""
    with pytest.raises(KeysUnavailable, match="refused"):
        await verifier_at("http://127.0.0.1:1/keys").verify(token())


# Options.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"url": "http://id.example.com/keys"}, "expected https"),
        ({"url": "ftp://id.example.com/keys"}, "expected https"),
        ({"url": "file:///etc/keys"}, "expected https"),
        ({"url": "https:///keys"}, "expected https"),
        ({"url": ""}, "expected https"),
        ({"algorithms": []}, "algorithms"),
        ({"algorithms": "RS256"}, "algorithms"),
        ({"algorithms": ["HS256"]}, "can't be a secret"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"timeout": 0}, "timeout"),
        ({"leeway": -1}, "leeway"),
        ({"issuer": []}, "issuer"),
        ({"audience": [7]}, "audience"),
    ],
)
def test_options_that_can_not_work(options: dict[str, Any], complaint: str):
    """They are named where they are given."""
    with pytest.raises(ConfigurationError, match=complaint):
        JWKSVerifier(**{"url": URL, "issuer": ISSUER, "audience": "roost", **options})


@pytest.mark.parametrize("url", ["http://localhost:8080/k", "http://127.0.0.1/k", "http://[::1]/k"])
def test_this_machine_needs_no_tls(url: str):
    """For tests, and for a provider behind a proxy on the same machine."""
    verifier_at(url)
