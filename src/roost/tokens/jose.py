"""What tokens use of joserfc, the library that knows JWS, JWE and JWK.

joserfc decides what a signature or a ciphertext is worth. What stands here is narrower than it: one
algorithm for each key, no critical header, no way for a token to say how, or with what, it wants to
be verified.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwe, jws
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jwt import JWTClaimsRegistry

from roost.exceptions import ConfigurationError, TokenError, TokenExpired, TokenInvalid
from roost.strict_json import DECODE_ERRORS, decode_json
from roost.tokens.algorithms import ASYMMETRIC, SYMMETRIC, KeyLike
from roost.tokens.base64url import decode_base64url

__all__ = [
    "VerifyingKey",
    "check_claims",
    "decrypt",
    "derived_key",
    "encrypt",
    "import_key",
    "import_key_set",
    "read_header",
    "sign",
    "verify",
    "verify_own",
]

_CURVES: Final = {"ES256": "P-256", "EdDSA": "Ed25519"}
_MATERIAL: Final = ("kty", "k", "n", "e", "crv", "x", "y")  # of a JSON Web Key
_MARKS_OF_PUBLIC_KEYS: Final = (b"-----BEGIN", b"---- BEGIN", b"ssh-", b"ecdsa-")
_RSA_SIZES: Final = range(2048, 16384 + 1)  # bits; RFC 7518 section 3.3, and what takes too long
MAX_KEYS: Final = 100  # of a key set
MAX_KEY_ID_LENGTH: Final = 256

# What hostile input may raise inside joserfc besides its own errors: a header that is a list, a
# claim that is nested too deeply.
_REFUSALS: Final = (
    JoseError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)


# Our own tokens: one algorithm and one header, which is compared, not read.

_SIGNED_HEADER: Final = {"typ": "JWT", "alg": "HS256"}
_ENCRYPTED_HEADER: Final = {"alg": "dir", "enc": "A256GCM"}


class _OwnSignatures(jws.JWSRegistry):
    max_payload_length = 1 << 20


class _OwnCiphers(jwe.JWERegistry):
    max_ciphertext_length = 1 << 20


_own_signatures: Final = _OwnSignatures(algorithms=["HS256"])
_own_ciphers: Final = _OwnCiphers(algorithms=["dir", "A256GCM"])


def derived_key(secret: bytes, salt: bytes, purpose: bytes) -> OctKey:
    """A key of 32 bytes for one purpose and salt: HKDF of RFC 5869, with SHA-256."""
    info = b"roost " + purpose + b"\0" + salt
    raw = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
    return OctKey.import_key(raw)


def sign(payload: bytes, key: OctKey) -> str:
    """A JWS of ``payload``."""
    return jws.serialize_compact(dict(_SIGNED_HEADER), payload, key, registry=_own_signatures)


def verify_own(token: str, keys: Iterable[OctKey]) -> bytes:
    """The payload of what ``sign`` made with one of the keys.

    Raises:
        TokenInvalid: It was made with none of them.
    """
    if not token.startswith(_SIGNED_START):
        raise TokenInvalid("the token is no signed token of roost")
    for key in keys:
        try:
            signed = jws.deserialize_compact(token, key, registry=_own_signatures)
        except _REFUSALS:
            continue
        return signed.payload or b""
    raise TokenInvalid("the token was signed with another secret or salt, or was changed")


def encrypt(plaintext: bytes, key: OctKey) -> str:
    """A JWE of ``plaintext``."""
    return jwe.encrypt_compact(dict(_ENCRYPTED_HEADER), plaintext, key, registry=_own_ciphers)


def decrypt(token: str, keys: Iterable[OctKey]) -> bytes:
    """The plaintext of what ``encrypt`` made with one of the keys.

    Raises:
        TokenInvalid: It was made with none of them.
    """
    if not token.startswith(_ENCRYPTED_START):
        raise TokenInvalid("the token is no encrypted token of roost")
    for key in keys:
        try:
            opened = jwe.decrypt_compact(token, key, registry=_own_ciphers)
        except _REFUSALS:
            continue
        return opened.plaintext or b""
    raise TokenInvalid("the token was encrypted with another secret or salt, or was changed")


_any_key: Final = OctKey.import_key(bytes(32))
_SIGNED_START: Final = sign(b"", _any_key).split(".")[0] + "."
_ENCRYPTED_START: Final = encrypt(b"", _any_key).split(".")[0] + ".."  # "dir" has no key in it


# The JWTs of others.


@dataclass(frozen=True)
class VerifyingKey:
    """A key, and the one algorithm that it verifies.

    Args:
        key: As the library has it.
        algorithm: What a token that it verifies has to be signed by.
        key_id: Its name in a key set, if it has one.
    """

    key: Key
    algorithm: str
    key_id: str | None = None


class _OthersSignatures(jws.JWSRegistry):
    """One algorithm; headers that we do not know are passed over, as RFC 7515 wants it."""

    max_header_length = 4096  # characters: some carry certificates
    max_payload_length = 1 << 20

    def __init__(self, algorithm: str) -> None:
        super().__init__(strict_check_header=False)
        self._algorithm = algorithm

    def get_alg(self, name: str) -> Any:
        if _canonical(name) != self._algorithm:
            raise ValueError("a token for another algorithm than the key's")
        # Ed25519 is what EdDSA is here, without a curve that the key could choose.
        return self.algorithms["Ed25519" if self._algorithm == "EdDSA" else self._algorithm]


_registries: Final = {name: _OthersSignatures(name) for name in (*SYMMETRIC, *ASYMMETRIC)}
_extracting: Final = _registries["RS256"]


def import_key(key: KeyLike, algorithm: str, key_id: str | None = None) -> VerifyingKey:
    """A key for one algorithm.

    Raises:
        ConfigurationError: It is no key for that.
    """
    if algorithm not in _registries:
        raise ConfigurationError(
            f"algorithm: expected one of {', '.join(_registries)}, got {algorithm!r}"
        )
    try:
        imported = _from_jwk(key, algorithm) if isinstance(key, Mapping) else _read(key, algorithm)
    except _REFUSALS as error:
        raise ConfigurationError(f"a key for {algorithm}: {error}") from error
    return VerifyingKey(imported, algorithm, key_id)


def _from_jwk(jwk: Mapping[str, Any], algorithm: str) -> Key:
    """A key of its material alone: what else stands there is for us to decide on.

    Its size is looked at first: of small keys joserfc only warns.
    """
    kind, material = jwk.get("kty"), {name: jwk[name] for name in _MATERIAL if name in jwk}
    if kind != ASYMMETRIC.get(algorithm, "oct"):
        raise ValueError(f"a JSON Web Key of the type {kind!r} is for another algorithm")
    if algorithm in SYMMETRIC:
        _check_secret(decode_base64url(jwk["k"]), algorithm)
        return OctKey.import_key(material)
    if algorithm == "RS256":
        _check_modulus(int.from_bytes(decode_base64url(jwk["n"]), "big").bit_length())
        return RSAKey.import_key(material)
    return _on_curve(
        ECKey.import_key(material) if algorithm == "ES256" else OKPKey.import_key(material),
        algorithm,
    )


def _read(given: str | bytes, algorithm: str) -> Key:
    """A key that is a secret, or PEM."""
    raw = given.encode() if isinstance(given, str) else given
    if not isinstance(raw, bytes):
        raise TypeError(f"expected text or bytes, got {type(raw).__name__}")
    if algorithm in SYMMETRIC:
        _check_secret(raw, algorithm)
        return OctKey.import_key(raw)
    if algorithm == "RS256":
        with warnings.catch_warnings():  # of small keys, which are refused
            warnings.simplefilter("ignore")
            rsa = RSAKey.import_key(raw)
        _check_modulus(rsa.raw_value.key_size)
        return rsa
    return _on_curve(
        ECKey.import_key(raw) if algorithm == "ES256" else OKPKey.import_key(raw), algorithm
    )


def _check_secret(secret: bytes, algorithm: str) -> None:
    """Raise for what is too short, and for a public key: who has that could sign with it."""
    if any(mark in secret for mark in _MARKS_OF_PUBLIC_KEYS):
        raise ValueError("expected a secret, got a public key, or a certificate")
    if len(secret) < SYMMETRIC[algorithm]:
        raise ValueError(
            f"expected a secret of at least {SYMMETRIC[algorithm]} bytes, got {len(secret)}"
        )


def _check_modulus(bit_count: int) -> None:
    if bit_count not in _RSA_SIZES:
        raise ValueError(f"expected 2048 to 16384 bits, got {bit_count}")


def _on_curve(key: ECKey | OKPKey, algorithm: str) -> Key:
    if key.curve_name != _CURVES[algorithm]:
        raise ValueError(f"expected the curve {_CURVES[algorithm]}, got {key.curve_name}")
    return key


def import_key_set(document: bytes, algorithms: Iterable[str]) -> list[VerifyingKey]:
    """The keys of a JSON Web Key Set that verify one of the algorithms.

    Keys that are for something else, or are broken, are passed over: RFC 7517 section 5.

    Raises:
        ValueError: It is no key set, or has no such key.
    """
    try:
        decoded = decode_json(document)
    except DECODE_ERRORS as error:
        raise ValueError(f"it is not JSON: {error}") from error
    listed = decoded.get("keys") if isinstance(decoded, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JSON Web Key Set: it has no list of keys")
    if len(listed) > MAX_KEYS:
        raise ValueError(f"it has {len(listed)} keys, more than {MAX_KEYS}")
    wanted = tuple(algorithms)
    keys = [key for each in listed if (key := _set_key(each, wanted)) is not None]
    if not keys:
        raise ValueError(f"none of its {len(listed)} keys is one for {' or '.join(wanted)}")
    return keys


def _set_key(jwk: object, algorithms: tuple[str, ...]) -> VerifyingKey | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations, key_id = jwk.get("key_ops", ["verify"]), jwk.get("kid")
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if not isinstance(key_id, str | None):
        return None
    for algorithm in algorithms:
        # Without "alg" the type of the key decides, of which each algorithm has one.
        if _canonical(jwk.get("alg", algorithm)) == algorithm:
            try:
                return import_key(jwk, algorithm, key_id)
            except ConfigurationError:
                continue
    return None


def read_header(token: str) -> tuple[str, str | None]:
    """The algorithm and the key id that a JWT says it was signed by; nothing is verified.

    Raises:
        TokenInvalid: It is no JWT, or wants to be verified in an unusual way.
    """
    try:
        header = jws.extract_compact(token.encode(), registry=_extracting).headers()
        algorithm, key_id = header["alg"], header.get("kid")
        is_usual = "crit" not in header and "b64" not in header
    except _REFUSALS as error:
        raise TokenInvalid("the token is no JWT") from error
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None) or not is_usual:
        raise TokenInvalid("the token's header is not one of a JWT")
    if key_id is not None and len(key_id) > MAX_KEY_ID_LENGTH:
        raise TokenInvalid(f"the token's key id has {len(key_id)} characters")
    if _canonical(algorithm) not in _registries:  # whatever is there is not for the log
        raise TokenInvalid("the token is not signed by an algorithm that is verified here")
    return _canonical(algorithm), key_id


def _canonical(algorithm: object) -> str:
    return "EdDSA" if algorithm == "Ed25519" else str(algorithm)


def verify(token: str, keys: Iterable[VerifyingKey]) -> dict[str, Any]:
    """The claims of a JWT that one of the keys verifies.

    Raises:
        TokenInvalid: None does, or they are no JSON object.
    """
    for each in keys:
        try:
            signed = jws.deserialize_compact(token, each.key, registry=_registries[each.algorithm])
        except _REFUSALS:
            continue
        return _claims(signed.payload or b"")
    raise TokenInvalid("the token was signed with another key, or was changed")


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = decode_json(payload)
    except DECODE_ERRORS as error:
        raise TokenInvalid("the token's claims are not JSON") from error
    if not isinstance(claims, dict):
        raise TokenInvalid("the token's claims are no JSON object")
    return claims


def check_claims(
    claims: dict[str, Any],
    *,
    issuers: list[str] | None,
    audiences: list[str] | None,
    now: float,
    leeway: float,
) -> None:
    """Check who made a JWT, for whom, and when it is good.

    Args:
        claims: Of a token that was verified.
        issuers: Who may have made it; None if that does not matter.
        audiences: Whom it must be for, one of them; None if that does not matter.
        now: In seconds since 1970.
        leeway: By how many seconds clocks may differ.

    Raises:
        TokenExpired: It has expired.
        TokenInvalid: It is not for us, not from them, or not good yet.
    """
    wanted: dict[str, Any] = {"exp": {"essential": True}}
    if issuers is not None:
        wanted["iss"] = {"essential": True, "values": issuers}
    if audiences is not None:
        wanted["aud"] = {"essential": True, "values": audiences}
    # It subtracts the leeway from now, and adds it to it; the types say int where floats do, too.
    registry = JWTClaimsRegistry(now=lambda: now, leeway=leeway, **wanted)  # type: ignore[arg-type, return-value]
    try:
        registry.validate(claims)
    except ExpiredTokenError as error:
        raise _expired(claims) from error
    except _REFUSALS as error:
        raise TokenInvalid(f"the token's claims: {_complaint(error)}") from error


def _expired(claims: dict[str, Any]) -> TokenError:
    try:
        return TokenExpired(float(claims["exp"]))
    except OverflowError:
        return TokenInvalid("the token's claims: exp is no time")


def _complaint(error: Exception) -> str:
    """What is wrong, without what the token says, which is for the log of nobody."""
    return str(error) if isinstance(error, JoseError) else type(error).__name__
