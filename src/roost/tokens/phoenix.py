"""Tokens of ``Phoenix.Token``, verified and issued beside a Phoenix application."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from typing import Any, Final, Literal, TypeAlias

from roost.exceptions import ConfigurationError, TermError, TokenExpired, TokenInvalid
from roost.tokens.base64url import Undecodable, decode_base64url, encode_base64url
from roost.tokens.rotation import SecretsLike, given_salt, given_secrets, installed
from roost.tokens.terms import Atom, Term, decode_term, encode_term
from roost.tokens.verified import (
    DEFAULT_MAX_AGE,
    MAX_TOKEN_SIZE,
    Verified,
    check_leeway,
    check_size,
    taken,
)

__all__ = ["KeyDigest", "PhoenixTokens"]

KeyDigest: TypeAlias = Literal["sha", "sha224", "sha256", "sha384", "sha512"]
"""A hash function, by the name that Erlang has for it."""

_KEY_DIGESTS: Final = {
    "sha": "sha1",
    "sha224": "sha224",
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
}
# The first part of a signed token → the hash function of its signature. HS256 is written; the
# others are read, as Phoenix does.
_SIGNATURES: Final = {"SFMyNTY": "sha256", "SFMzODQ": "sha384", "SFM1MTI": "sha512"}
_WRITTEN: Final = "SFMyNTY"
_MIN_SECRET_SIZE: Final = 20  # bytes, of a key base that Phoenix takes
_MAX_ITERATIONS: Final = 10_000_000  # seconds of work
_MAX_KEY_LENGTH: Final = 1024  # bytes


class PhoenixTokens:
    """Sign, verify, encrypt and decrypt as ``Phoenix.Token`` does.

    A token that a Phoenix application made is good here, and one made here is good there, if both
    have the same ``secret_key_base``, salt and options. Between services in Python prefer
    ``SignedTokens`` and ``EncryptedTokens``, which are JWTs.

    Data is what can be a term of Erlang's: None, booleans, numbers, text, bytes, lists, tuples and
    dicts. ``Atom("admin")`` writes an atom; atoms that are read are ``Atom`` too, which are equal
    to text, also as keys of dicts. Bytes that are UTF-8 are read as text, since in Elixir both are
    binaries.

    ``encrypt`` and ``decrypt`` need ``pip install "roost[tokens]"``.

    Args:
        secret_key_base: The one of the Phoenix application's endpoint, at least 20 bytes; several,
            while it is rotated: the first signs and encrypts, all verify and decrypt.
        salt: What the tokens are for, as the second argument of ``Phoenix.Token.sign``.
        max_age: For how many seconds what is signed here is good; ``math.inf`` for ever. Verifying
            keeps to what the token says, unless it is told otherwise there.
        key_iterations: As in Phoenix, of PBKDF2.
        key_length: As in Phoenix, in bytes; encryption needs 32.
        key_digest: As in Phoenix.
        leeway: How many seconds the clock of whoever signs may be ahead of ours.
        max_size: Longer tokens are refused, and not made.

    Raises:
        ConfigurationError: An option can't work.

    Example:
        >>> tokens = PhoenixTokens("a secret key base of the Phoenix app", salt="user socket")
        >>> tokens.verify(tokens.sign({"user_id": 7})).data
        {'user_id': 7}
    """

    def __init__(
        self,
        secret_key_base: SecretsLike,
        *,
        salt: str,
        max_age: float = DEFAULT_MAX_AGE,
        key_iterations: int = 1000,
        key_length: int = 32,
        key_digest: KeyDigest = "sha256",
        leeway: float = 5.0,
        max_size: int = MAX_TOKEN_SIZE,
    ) -> None:
        secrets = given_secrets(
            secret_key_base, argument="secret_key_base", min_size=_MIN_SECRET_SIZE
        )
        if not 1 <= key_iterations <= _MAX_ITERATIONS:
            raise ConfigurationError(
                f"key_iterations: expected 1 to {_MAX_ITERATIONS}, got {key_iterations}"
            )
        if not 1 <= key_length <= _MAX_KEY_LENGTH:
            raise ConfigurationError(
                f"key_length: expected 1 to {_MAX_KEY_LENGTH} bytes, got {key_length}"
            )
        if key_digest not in _KEY_DIGESTS:
            raise ConfigurationError(
                f"key_digest: expected one of {', '.join(_KEY_DIGESTS)}, got {key_digest!r}"
            )
        salt_bytes, digest = given_salt(salt), _KEY_DIGESTS[key_digest]
        self._keys = [
            hashlib.pbkdf2_hmac(digest, secret, salt_bytes, key_iterations, key_length)
            for secret in secrets
        ]
        self._max_age = _number(max_age, "max_age")
        self._leeway = check_leeway(leeway)
        self._max_size = check_size(max_size)

    def sign(
        self, data: Term, *, max_age: float | None = None, signed_at: float | None = None
    ) -> str:
        """A token that whoever has it can read, but not change.

        Args:
            data: What it says.
            max_age: For how many seconds it is good, if not for as long as all others.
            signed_at: The time that it is made at, in seconds since 1970; by default now.

        Raises:
            TermError: The data can't be written, or the token would be too long.
        """
        payload = encode_base64url(self._encoded(data, max_age, signed_at))
        signing_input = f"{_WRITTEN}.{payload}"
        signature = hmac.digest(self._keys[0], signing_input.encode(), "sha256")
        return self._made(f"{signing_input}.{encode_base64url(signature)}")

    def verify(self, token: str | None, *, max_age: float | None = None) -> Verified:
        """What a signed token says.

        Args:
            token: As it came from the client.
            max_age: How many seconds old it may be; by default what it says itself.

        Raises:
            TokenMissing: It is None.
            TokenInvalid: It was not made with this secret and salt, or was changed.
            TokenExpired: It is too old.
        """
        token = taken(token, self._max_size)
        kind, *parts = token.split(".", 3)  # one more than there may be
        if kind not in _SIGNATURES or len(parts) != 2:
            raise TokenInvalid("the token is no signed token of Phoenix")
        payload, signature = parts
        try:
            decoded_payload, decoded_signature = (
                decode_base64url(payload),
                decode_base64url(signature),
            )
        except Undecodable as error:
            raise TokenInvalid("a part of the token is no base64") from error
        signing_input = f"{kind}.{payload}".encode()
        for key in self._keys:
            expected = hmac.digest(key, signing_input, _SIGNATURES[kind])
            if hmac.compare_digest(expected, decoded_signature):
                return self._decoded(decoded_payload, max_age)
        raise TokenInvalid("the token was signed with another secret or salt, or was changed")

    def encrypt(
        self, data: Term, *, max_age: float | None = None, signed_at: float | None = None
    ) -> str:
        """A token that whoever has it can neither read nor change; the arguments are ``sign``'s.

        Raises:
            TermError: The data can't be written, or the token would be too long.
            ConfigurationError: ``key_length`` is not 32, or what encrypts is not installed.
        """
        if len(self._keys[0]) != 32:
            raise ConfigurationError(f"key_length: encryption needs 32, not {len(self._keys[0])}")
        with installed("PhoenixTokens.encrypt"):
            from roost.tokens import phoenix_cipher
        plaintext = self._encoded(data, max_age, signed_at)
        return self._made(phoenix_cipher.encrypt(plaintext, self._keys[0]))

    def decrypt(self, token: str | None, *, max_age: float | None = None) -> Verified:
        """What an encrypted token says; the arguments are ``verify``'s.

        Tokens of older Phoenix applications (plug_crypto 1) are read, too.

        Raises:
            TokenMissing: It is None.
            TokenInvalid: It was not made with this secret and salt, or was changed.
            TokenExpired: It is too old.
            ConfigurationError: ``key_length`` is not 16, 24 or 32, or what decrypts is not
                installed.
        """
        if len(self._keys[0]) not in (16, 24, 32):
            raise ConfigurationError(
                f"key_length: decryption needs 16, 24 or 32, not {len(self._keys[0])}"
            )
        with installed("PhoenixTokens.decrypt"):
            from roost.tokens import phoenix_cipher
        token = taken(token, self._max_size)
        for key in self._keys:
            plaintext = phoenix_cipher.decrypt(token, key)
            if plaintext is not None:
                return self._decoded(plaintext, max_age)
        raise TokenInvalid("the token was encrypted with another secret or salt, or was changed")

    def _encoded(self, data: Term, max_age: float | None, signed_at: float | None) -> bytes:
        max_age = self._max_age if max_age is None else _number(max_age, "max_age")
        signed_at = time.time() if signed_at is None else _number(signed_at, "signed_at")
        return encode_term((data, math.trunc(signed_at * 1000), _age_term(max_age)))

    def _made(self, token: str) -> str:
        if len(token) > self._max_size:
            raise TermError(f"a token of {len(token)} characters, more than {self._max_size}")
        return token

    def _decoded(self, payload: bytes, max_age: float | None) -> Verified:
        """What is in a token that is ours, if it is not too old."""
        try:
            data, signed_at_ms, own_max_age = _message(decode_term(payload))
        except TermError as error:
            raise TokenInvalid(f"the token is ours, but can't be read: {error}") from error
        max_age = own_max_age if max_age is None else _number(max_age, "max_age")
        signed_at = signed_at_ms / 1000
        if max_age == math.inf:
            return Verified(data, signed_at, math.inf)
        now_ms = int(time.time() * 1000)
        expires_at_ms = signed_at_ms + math.trunc(max_age * 1000)
        # As in Phoenix: none at all is expired also within the millisecond in which it was signed.
        if max_age <= 0 or expires_at_ms < now_ms:
            raise TokenExpired(expires_at_ms / 1000)
        if signed_at_ms > now_ms + self._leeway * 1000:
            raise TokenInvalid("the token was made in the future: compare the machines' clocks")
        return Verified(data, signed_at, expires_at_ms / 1000)


def _message(term: Term) -> tuple[Any, float, float]:
    """The data, when it was signed in milliseconds, and its maximum age in seconds."""
    max_age: Term = DEFAULT_MAX_AGE
    match term:
        case tuple((data, signed, max_age)):
            pass
        case tuple((data, signed)):  # plug_crypto 1.0
            pass
        case {"data": data, "signed": signed}:  # Phoenix 1.4 and older
            pass
        case _:
            raise TermError("expected data, when it was signed, and its maximum age")
    if isinstance(max_age, Atom) and max_age == "infinity":
        max_age = math.inf
    for number in (signed, max_age):
        # What is beyond these is no time, and floats would be exact no more.
        if type(number) not in (int, float) or (number != math.inf and not abs(number) < 1 << 53):
            raise TermError("when it was signed, or its maximum age, is no time")
    return data, signed, max_age


def _age_term(max_age: float) -> Term:
    if max_age == math.inf:
        return Atom("infinity")
    # Phoenix takes both; as an integer a whole number is what Phoenix itself writes.
    return int(max_age) if max_age == int(max_age) else max_age


def _number(value: float, argument: str) -> float:
    """``value``, if it is a time or an age that a token can say."""
    if value == math.inf and argument == "max_age":
        return value
    if not abs(value) < 1 << 43:  # also for NaN; seconds, of which the milliseconds are exact
        raise ConfigurationError(f"{argument}: expected a number of seconds, got {value}")
    return value
