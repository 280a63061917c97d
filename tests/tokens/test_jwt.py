"""JWTs of others, verified with a key that we have; and what attackers of JWTs try."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from roost.exceptions import ConfigurationError, TokenExpired, TokenInvalid, TokenMissing
from roost.tokens import JWTVerifier, jose
from tests.tokens.clock import Clock
from tests.tokens.jwts import Keys, base64url, made, public_jwk, public_pem, signature

ISSUER = "https://id.example.com"
SECRET = b"0123456789abcdef" * 4
NOW = 1_700_000_000
GOOD = {"iss": ISSUER, "aud": "roost", "sub": "alice", "iat": NOW - 60, "exp": NOW + 60}


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def verifier(key: Any = SECRET, algorithm: Any = "HS256", **options: Any) -> JWTVerifier:
    options = {"issuer": ISSUER, "audience": "roost", **options}
    return JWTVerifier(key, algorithm=algorithm, **options)


def refused(token: Any, by: JWTVerifier, reason: str | None = None) -> None:
    with pytest.raises(TokenInvalid, match=reason):
        by.verify(token)


# What is good.


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.usefixtures("clock")
def test_with_a_secret(algorithm: str):
    """The claims of a token that was signed with our secret."""
    verified = verifier(SECRET.decode(), algorithm).verify(made(algorithm, GOOD, SECRET))

    assert verified.data == GOOD
    assert (verified.signed_at, verified.expires_at) == (NOW - 60, NOW + 60)
    assert verified.expires_in() == 60


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.usefixtures("clock")
def test_with_a_public_key(algorithm: str, keys: Keys):
    """As PEM, in text or bytes, or as a JSON Web Key."""
    private = keys.of(algorithm)
    pem, token = public_pem(private), made(algorithm, GOOD, private)
    for key in (pem, pem.decode(), public_jwk(private), public_jwk(private, alg=algorithm)):
        assert verifier(key, algorithm).verify(token).data["sub"] == "alice"


@pytest.mark.usefixtures("clock")
def test_ed25519_under_its_new_name(keys: Keys):
    """RFC 9864 calls EdDSA by its curve."""
    token = made("Ed25519", GOOD, keys.ed25519)

    assert verifier(public_pem(keys.ed25519), "EdDSA").verify(token).data == GOOD


@pytest.mark.usefixtures("clock")
def test_any_of_several_keys_verifies():
    """Any of them verifies: so that they can be rotated."""
    old, new = SECRET, SECRET[::-1]

    for key in (old, new):
        assert verifier([new, old]).verify(made("HS256", GOOD, key)).data == GOOD
    refused(made("HS256", GOOD, old), verifier([new]))


def test_the_examples_of_the_standard():
    """RFC 7515, appendices A.1 and A.3: the signatures are good, and the token is of 2011."""
    payload = (
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
        "cnVlfQ"
    )
    secret = {
        "kty": "oct",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9"
        "CAow",
    }
    public = {
        "kty": "EC",
        "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    }
    for key, algorithm, header, signed in (
        (
            secret,
            "HS256",
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            public,
            "ES256",
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU"
            "1Q",
        ),
    ):
        with pytest.raises(TokenExpired) as expired:
            verifier(key, algorithm, issuer="joe", audience=None).verify(
                f"{header}.{payload}.{signed}"
            )
        assert expired.value.expired_at == 1300819380


# Claims.


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example.com"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"iss": ISSUER + "/"},
        {"aud": "another"},
        {"aud": []},
        {"aud": ["another"]},
        {"aud": None},
        {"aud": {"roost": True}},
        {"aud": [["roost"]]},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": str(NOW + 60)},
        {"exp": True},
        {"nbf": NOW + 31},
        {"nbf": "now"},
        {"iat": NOW + 31},
        {"iat": "now"},
        {"sub": 7},
    ],
)
@pytest.mark.usefixtures("clock")
def test_claims_that_are_not_for_us(change: dict[str, Any]):
    """Another issuer or audience, none at all, no end, not yet, or nonsense: invalid."""
    claims = {name: value for name, value in {**GOOD, **change}.items() if value is not None}

    refused(made("HS256", claims, SECRET), verifier())


@pytest.mark.parametrize(
    "change", [{"aud": ["another", "roost"]}, {"nbf": NOW + 29}, {"iat": None}, {"x": [1]}]
)
@pytest.mark.usefixtures("clock")
def test_claims_that_are(change: dict[str, Any]):
    """Several audiences, clocks that differ by less than the leeway, and claims of their own."""
    claims = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    token = made("HS256", claims, SECRET)

    assert verifier().verify(token).data == claims
    assert verifier(issuer=["a", ISSUER], audience=["b", "roost"]).verify(token).data == claims


@pytest.mark.usefixtures("clock")
def test_issuer_and_audience_may_not_matter():
    """If that is said; they still have to make sense."""
    open_ = verifier(issuer=None, audience=None)

    assert open_.verify(made("HS256", {"exp": NOW + 1}, SECRET)).signed_at is None
    refused(made("HS256", {"exp": NOW + 1, "aud": 7}, SECRET), open_)


def test_a_token_expires(clock: Clock):
    """To the second, and the leeway of clocks."""
    token = made("HS256", GOOD, SECRET)
    clock.now = NOW + 60 + 29.9
    assert verifier().verify(token).data == GOOD
    clock.advance(0.1)
    with pytest.raises(TokenExpired) as expired:
        verifier().verify(token)
    assert expired.value.expired_at == NOW + 60
    with pytest.raises(TokenExpired):
        verifier(leeway=0).verify(made("HS256", {**GOOD, "exp": clock.now}, SECRET))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'"alice"',
        b"\xff",
        b'{"exp": NaN}',
        b'{"exp": Infinity}',
        b'{"exp": 1e999}',
        b'{"exp": -1e308}',
        b'{"exp": ' + b"9" * 6000 + b"}",
        b'{"exp": -' + b"9" * 400 + b"}",
        b'{"exp": ' + b"9" * 400 + b"}",
        b'{"exp": 9999999999, "iat": ' + b"9" * 400 + b"}",
        b'{"exp": 9999999999, "iat": -' + b"9" * 400 + b"}",
        b'{"a": ' + b"[" * 4000 + b"]" * 4000 + b"}",
        json.dumps(GOOD).encode("utf-16"),
    ],
    ids=lambda payload: f"{len(payload)} {payload[:30]!r}",
)
@pytest.mark.usefixtures("clock")
def test_payloads_that_are_no_claims(payload: bytes):
    """With a good signature, too: invalid or expired, and never a crash."""
    with pytest.raises((TokenInvalid, TokenExpired)):
        verifier(issuer=None, audience=None, max_size=1 << 20).verify(
            made("HS256", payload, SECRET)
        )


# Attacks.


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.usefixtures("clock")
def test_without_a_signature(name: str, keys: Keys):
    """A token that says it needs none is invalid, for any key."""
    token = made(name, GOOD, None, algorithm="none")
    for by in (verifier(), verifier(public_pem(keys.rsa), "RS256")):
        refused(token, by)
        refused(made("HS256", GOOD, SECRET).rpartition(".")[0] + ".", by)


@pytest.mark.usefixtures("clock")
def test_a_public_key_is_no_secret(keys: Keys):
    """What everybody has, taken as a secret, signs nothing: an algorithm belongs to a key."""
    for algorithm in ("RS256", "ES256", "EdDSA"):
        private = keys.of(algorithm)
        by = verifier(public_pem(private), algorithm)
        for secret in (
            public_pem(private),
            public_pem(private).strip(),
            json.dumps(public_jwk(private)).encode(),
        ):
            for other in ("HS256", "HS384", "HS512"):
                refused(made(other, GOOD, secret), by, f"signed by {other}")
            refused(made(algorithm, GOOD, secret, algorithm="HS256"), by)


@pytest.mark.usefixtures("clock")
def test_another_algorithm_of_the_same_key():
    """A secret for HS256 verifies HS256."""
    for other in ("HS384", "HS512"):
        refused(made(other, GOOD, SECRET), verifier(), f"signed by {other}, expected HS256")


def test_a_key_verifies_its_algorithm_only():
    """Also a signature that the key made, if the token says that it is another one."""
    key = jose.import_key(SECRET, "HS256")

    assert jose.verify(made("HS256", GOOD, SECRET), [key]) == GOOD
    for other in ("HS384", "RS256", "none"):
        with pytest.raises(TokenInvalid):
            jose.verify(made(other, GOOD, SECRET, algorithm="HS256"), [key])


@pytest.mark.usefixtures("clock")
def test_a_token_brings_no_key(keys: Keys):
    """Keys in a header, and addresses of keys, are not looked at."""
    evil = Keys().rsa
    by = verifier(public_pem(keys.rsa), "RS256")
    for member in (
        {"jwk": public_jwk(evil)},
        {"jku": "https://evil.example.com/keys"},
        {"x5u": "https://evil.example.com/certificate"},
        {"x5c": [base64url(public_pem(evil))]},
        {"kid": "../../../../dev/null"},
        {"kid": "1' OR '1'='1"},
    ):
        refused(made({"alg": "RS256", **member}, GOOD, evil), by)


@pytest.mark.usefixtures("clock")
def test_headers_that_change_the_rules():
    """What must be understood is not, and no payload is signed as it is."""
    members: list[dict[str, Any]] = [
        {"crit": ["exp"], "exp": NOW + 60},
        {"crit": []},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True, "crit": ["b64"]},
    ]
    for member in members:
        refused(made({"alg": "HS256", **member}, GOOD, SECRET), verifier())


@pytest.mark.usefixtures("clock")
def test_headers_of_providers():
    """Some have members of their own, or a certificate: that is nothing bad."""
    members: list[dict[str, Any]] = [
        {"cat": "cl_B7d4PD222AAA"},
        {"x5t": "abc", "x5c": ["A" * 1500]},
        {"kid": "1"},
    ]
    for member in members:
        token = made({"alg": "HS256", **member}, GOOD, SECRET)
        assert verifier().verify(token).data == GOOD


@pytest.mark.parametrize(
    "header",
    [
        [],
        ["alg"],
        "alg",
        7,
        None,
        {},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": {"HS256": 1}},
        {"alg": "HS256", "kid": 7},
        {"alg": "HS256", "kid": ["a"]},
        {"alg": "HS256", "kid": "a" * 257},
        {"alg": "HS256", "crit": 7},
        {"alg": "HS256", "typ": 7},
    ],
    ids=repr,
)
@pytest.mark.usefixtures("clock")
def test_headers_that_are_none(header: Any):
    """Whatever JSON a header is, it is no crash."""
    signing_input = f"{base64url(json.dumps(header).encode())}.{base64url(b'{}')}"
    signed = base64url(signature("HS256", signing_input.encode(), SECRET))

    refused(f"{signing_input}.{signed}", verifier())


@pytest.mark.usefixtures("clock")
def test_signatures_that_are_none(keys: Keys):
    """Zeros, too short, too long, of another message, not in the one form of base64: invalid."""
    for algorithm, key in (
        ("HS256", SECRET),
        ("RS256", keys.rsa),
        ("ES256", keys.ec),
        ("EdDSA", keys.ed25519),
    ):
        by = verifier(SECRET if algorithm == "HS256" else public_pem(key), algorithm)
        token = made(algorithm, GOOD, key)
        signing_input, _, signed = token.rpartition(".")
        other = made(algorithm, {**GOOD, "sub": "bob"}, key)
        assert by.verify(token).data == GOOD
        for bad in (
            "",
            "A" * len(signed),
            signed[:-4],
            signed + "AAAA",
            signed + "=",
            "_" * len(signed),
            other.rpartition(".")[2],
        ):
            refused(f"{signing_input}.{bad}", by)
        refused(f"{other.rpartition('.')[0]}.{signed}", by)


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b.c", "e30.e30.e30", "....", "a" * 8193, "ü", b"a.b.c", 7, {}],
    ids=lambda token: repr(token)[:20],
)
def test_what_can_be_no_token(token: Any):
    """It is invalid, and no crash."""
    refused(token, verifier())


def test_no_token_is_missing():
    """None is no token."""
    with pytest.raises(TokenMissing):
        verifier().verify(None)


@pytest.mark.usefixtures("clock")
def test_what_is_refused_is_not_repeated():
    """Errors are for logs: they have nothing of a token, its claims, or its key in them."""
    secret = "sesame-" * 5
    claims = {**GOOD, "aud": "hunter2", "sub": "hunter2"}
    token = made("HS256", claims, secret.encode())
    unknown = made("hunter2\n", GOOD, secret.encode(), algorithm="HS256")
    for given in (token, unknown):
        for by in (verifier(secret), verifier()):
            with pytest.raises(TokenInvalid) as error:
                by.verify(given)
            seen = f"{error.value} {error.value.payload}"
            for hidden in ("hunter2", "sesame", "\n", *given.split(".")):
                assert hidden not in seen


# Options.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"algorithm": "none"}, "algorithm"),
        ({"algorithm": "HS1"}, "algorithm"),
        ({"key": b"short"}, "32 bytes"),
        ({"key": ""}, "32 bytes"),
        ({"key": None}, "a key for HS256"),
        ({"key": [None]}, "a key for HS256"),
        ({"key": []}, "keys"),
        ({"key": b"0" * 32, "algorithm": "HS512"}, "64 bytes"),
        ({"key": {"kty": "oct", "k": "c2hvcnQ"}}, "32 bytes"),
        ({"key": {"kty": "oct"}}, "a key for HS256"),
        ({"key": "-----BEGIN PUBLIC KEY-----" + "A" * 40}, "public key"),
        ({"key": "ssh-rsa " + "A" * 40}, "public key"),
        ({"key": "no PEM at all", "algorithm": "RS256"}, "a key for RS256"),
        ({"issuer": []}, "issuer"),
        ({"audience": ""}, "audience"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": math.nan}, "leeway"),
        ({"max_size": 0}, "max_size"),
    ],
)
def test_options_that_can_not_work(options: dict[str, Any], complaint: str):
    """They are named where they are given."""
    with pytest.raises(ConfigurationError, match=complaint):
        verifier(**options)


def test_keys_that_are_for_something_else(keys: Keys):
    """A key is of its algorithm's type, curve and size, and a public one is no secret."""
    weak = rsa.generate_private_key(65537, 1024)
    p384 = ec.generate_private_key(ec.SECP384R1())
    for key, algorithm in (
        (public_pem(keys.rsa), "HS256"),
        (public_jwk(keys.rsa), "HS256"),
        (public_pem(keys.rsa), "ES256"),
        (public_pem(keys.ec), "RS256"),
        (public_pem(keys.ec), "EdDSA"),
        (public_jwk(keys.ed25519), "ES256"),
        (public_pem(weak), "RS256"),
        (public_pem(p384), "ES256"),
        ({"kty": "oct", "k": base64url(SECRET)}, "RS256"),
    ):
        with pytest.raises(ConfigurationError):
            verifier(key, algorithm)


def test_issuer_and_audience_have_to_be_said():
    """Whom a token must be from and for is no default."""
    with pytest.raises(TypeError, match="issuer"):
        JWTVerifier(SECRET, algorithm="HS256")  # type: ignore[call-arg]


def test_now_is_now():
    """Without a clock of the test's: a token of this hour is good."""
    now = time.time()

    verified = verifier().verify(made("HS256", {**GOOD, "iat": now, "exp": now + 60}, SECRET))
    assert 0 < verified.expires_in() <= 60
