"""roost's own tokens: JWTs of a derived key, signed or encrypted, that say when they were made."""

from __future__ import annotations

import math
import time
from typing import Any

from roost.exceptions import ConfigurationError, PayloadError, TokenInvalid
from roost.strict_json import DECODE_ERRORS, JsonEncoder, decode_json
from roost.tokens.rotation import SecretsLike, given_salt, given_secrets, installed
from roost.tokens.verified import (
    DEFAULT_MAX_AGE,
    MAX_TOKEN_SIZE,
    Verified,
    check_leeway,
    check_max_age,
    check_size,
    check_times,
    taken,
)

__all__ = ["EncryptedTokens", "SignedTokens"]

_MIN_SECRET_SIZE = 32  # bytes: as many as the keys have that are derived from it
_LEEWAY = 5.0  # seconds: what clocks that are set by NTP stay well below

_encoder = JsonEncoder()


class SignedTokens:
    """Sign and verify tokens, which whoever has them can read, but not change.

    They are JWTs (HS256) under a key that is derived from the secret and the salt (HKDF), so that a
    token for one purpose is none for another. Needs ``pip install "roost[tokens]"``.

    Args:
        secrets: At least 32 random bytes, or text of them; several, while they are rotated: the
            first signs, all verify.
        salt: What the tokens are for, for example ``"user socket"``.
        max_age: For how many seconds a token is good, by default a day; ``math.inf`` for ever.
        leeway: By how many seconds the clocks of those who sign and verify may differ.
        max_size: Longer tokens are refused, and not made.

    Raises:
        ConfigurationError: An option can't work, or joserfc is not installed.

    Example:
        >>> tokens = SignedTokens("a secret of thirty-two bytes or more", salt="user socket")
        >>> token = tokens.sign({"user_id": 7}, max_age=3600)
        >>> tokens.verify(token).data
        {'user_id': 7}
        >>> SignedTokens("another secret, which is as long.", salt="user socket").verify(token)
        Traceback (most recent call last):
        ...
        roost.exceptions.TokenInvalid: the token was signed with another secret or salt, or was \
changed
    """

    def __init__(
        self,
        secrets: SecretsLike,
        *,
        salt: str,
        max_age: float = DEFAULT_MAX_AGE,
        leeway: float = _LEEWAY,
        max_size: int = MAX_TOKEN_SIZE,
    ) -> None:
        with installed("SignedTokens"):
            from roost.tokens import jose
        self._jose = jose
        salt_bytes = given_salt(salt)
        self._keys = [
            jose.derived_key(secret, salt_bytes, b"signed token")
            for secret in given_secrets(secrets, argument="secrets", min_size=_MIN_SECRET_SIZE)
        ]
        self._claims = _Claims(max_age, leeway)
        self._max_size = check_size(max_size)

    def sign(
        self, data: Any, *, max_age: float | None = None, signed_at: float | None = None
    ) -> str:
        """A token that says ``data``.

        Args:
            data: Any JSON value.
            max_age: For how many seconds it is good, if for less than all others.
            signed_at: The time that it is made at, in seconds since 1970; by default now.

        Raises:
            PayloadError: The data is no JSON, or makes the token too long.
        """
        payload = self._claims.encode(data, max_age, signed_at)
        return _made(self._jose.sign(payload, self._keys[0]), self._max_size)

    def verify(self, token: str | None, *, max_age: float | None = None) -> Verified:
        """What a token says.

        Args:
            token: As it came from the client.
            max_age: How many seconds old it may be, if less than all others.

        Raises:
            TokenMissing: It is None.
            TokenInvalid: It was not made with one of the secrets and the salt, or was changed.
            TokenExpired: It is too old.
        """
        payload = self._jose.verify_own(taken(token, self._max_size), self._keys)
        return self._claims.decode(payload, max_age)


class EncryptedTokens:
    """Encrypt and decrypt tokens, which whoever has them can neither read nor change.

    They are JWTs (JWE, ``dir`` and A256GCM) under a key that is derived from the secret and the
    salt. Needs ``pip install "roost[tokens]"``.

    Args:
        secrets: At least 32 random bytes, or text of them; several, while they are rotated: the
            first encrypts, all decrypt.
        salt: What the tokens are for, for example ``"invitation"``.
        max_age: For how many seconds a token is good, by default a day; ``math.inf`` for ever.
        leeway: By how many seconds the clocks of those who encrypt and decrypt may differ.
        max_size: Longer tokens are refused, and not made.

    Raises:
        ConfigurationError: An option can't work, or joserfc is not installed.

    Example:
        >>> tokens = EncryptedTokens("a secret of thirty-two bytes or more", salt="invitation")
        >>> tokens.decrypt(tokens.encrypt(["room:1", "bob"])).data
        ['room:1', 'bob']
    """

    def __init__(
        self,
        secrets: SecretsLike,
        *,
        salt: str,
        max_age: float = DEFAULT_MAX_AGE,
        leeway: float = _LEEWAY,
        max_size: int = MAX_TOKEN_SIZE,
    ) -> None:
        with installed("EncryptedTokens"):
            from roost.tokens import jose
        self._jose = jose
        salt_bytes = given_salt(salt)
        self._keys = [
            jose.derived_key(secret, salt_bytes, b"encrypted token")
            for secret in given_secrets(secrets, argument="secrets", min_size=_MIN_SECRET_SIZE)
        ]
        self._claims = _Claims(max_age, leeway)
        self._max_size = check_size(max_size)

    def encrypt(
        self, data: Any, *, max_age: float | None = None, signed_at: float | None = None
    ) -> str:
        """A token that says ``data``; the arguments are those of ``SignedTokens.sign``.

        Raises:
            PayloadError: The data is no JSON, or makes the token too long.
        """
        payload = self._claims.encode(data, max_age, signed_at)
        return _made(self._jose.encrypt(payload, self._keys[0]), self._max_size)

    def decrypt(self, token: str | None, *, max_age: float | None = None) -> Verified:
        """What a token says; the arguments are those of ``SignedTokens.verify``.

        Raises:
            TokenMissing: It is None.
            TokenInvalid: It was not made with one of the secrets and the salt, or was changed.
            TokenExpired: It is too old.
        """
        payload = self._jose.decrypt(taken(token, self._max_size), self._keys)
        return self._claims.decode(payload, max_age)


class _Claims:
    """What our tokens carry: the data, when they were made, and until when they are good.

    Both who makes a token and who verifies it say how old it may be; the less counts.
    """

    def __init__(self, max_age: float, leeway: float) -> None:
        self._max_age = check_max_age(max_age)
        self._leeway = check_leeway(leeway)

    def encode(self, data: Any, max_age: float | None, signed_at: float | None) -> bytes:
        signed_at = round(time.time() if signed_at is None else signed_at, 3)
        if not math.isfinite(signed_at):
            raise ConfigurationError(f"signed_at: expected a time, got {signed_at}")
        claims = {"data": data, "iat": signed_at}
        max_age = self._less(max_age)
        if max_age != math.inf:
            claims["exp"] = round(signed_at + max_age, 3)
        return _encoder.encode(claims)

    def decode(self, payload: bytes, max_age: float | None) -> Verified:
        try:
            claims = decode_json(payload)
            data, signed_at = claims["data"], float(claims["iat"])
            expires_at = float(claims.get("exp", math.inf))
        except (*DECODE_ERRORS, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise TokenInvalid("the token is ours, but says nothing that roost wrote") from error
        expires_at = min(expires_at, signed_at + self._less(max_age))
        return check_times(Verified(data, signed_at, expires_at), self._leeway)

    def _less(self, max_age: float | None) -> float:
        return self._max_age if max_age is None else min(check_max_age(max_age), self._max_age)


def _made(token: str, max_size: int) -> str:
    if len(token) > max_size:
        raise PayloadError(f"a token of {len(token)} characters, more than {max_size}")
    return token
