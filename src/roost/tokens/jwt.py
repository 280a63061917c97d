"""JWTs that others make: by a key that we have, or by those that an identity provider serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from roost.exceptions import ConfigurationError, TokenInvalid
from roost.tokens.algorithms import ASYMMETRIC, Algorithm, KeyLike
from roost.tokens.key_sets import Fetch, KeySet, check_url
from roost.tokens.rotation import MAX_SECRETS, installed
from roost.tokens.verified import MAX_TOKEN_SIZE, Verified, check_leeway, check_size, taken

__all__ = ["JWKSVerifier", "JWTVerifier", "Names"]

Names: TypeAlias = str | Sequence[str] | None
"""One name, several of which any will do, or None where it does not matter."""

_LEEWAY = 30.0  # seconds: others' clocks


class JWTVerifier:
    """Verify JWTs with a secret or public key that you have.

    A key verifies one algorithm, which you name: what a token says about itself chooses nothing. A
    token without ``exp`` is refused. Needs ``pip install "roost[tokens]"``.

    Args:
        keys: The secret for HS256, HS384 and HS512, at least as long as the hash; the public key
            for RS256, ES256 and EdDSA, as PEM; or either as a JSON Web Key. Several, while they
            are rotated: all verify.
        algorithm: How the tokens are signed.
        issuer: Whose tokens are good: ``iss`` has to be it, or one of them; None if any may be.
        audience: Whom they have to be for: ``aud`` has to be it, to have it, or one of them; None
            if it does not matter. Where one issuer serves several applications, it does.
        leeway: By how many seconds the issuer's clock may differ from ours.
        max_size: Longer tokens are refused.

    Raises:
        ConfigurationError: An option can't work, or joserfc is not installed.

    Example:
        >>> secret = "0123456789abcdef0123456789abcdef"
        >>> jwts = JWTVerifier(secret, algorithm="HS256", issuer=None, audience=None)
        >>> jwts.verify("eyJhbGciOiJFUzI1NiJ9.e30.")
        Traceback (most recent call last):
        ...
        roost.exceptions.TokenInvalid: the token is signed by ES256, expected HS256
    """

    def __init__(
        self,
        keys: KeyLike | list[KeyLike] | tuple[KeyLike, ...],
        *,
        algorithm: Algorithm,
        issuer: Names,
        audience: Names,
        leeway: float = _LEEWAY,
        max_size: int = MAX_TOKEN_SIZE,
    ) -> None:
        with installed("JWTVerifier"):
            from roost.tokens import jose
        self._jose = jose
        several = list(keys) if isinstance(keys, (list, tuple)) else [keys]
        if not 0 < len(several) <= MAX_SECRETS:
            raise ConfigurationError(f"keys: expected one to {MAX_SECRETS}, got {len(several)}")
        self._keys = [jose.import_key(key, algorithm) for key in several]
        self._algorithm = algorithm
        self._claims = _ClaimChecks(issuer, audience, leeway)
        self._max_size = check_size(max_size)

    def verify(self, token: str | None) -> Verified:
        """The claims of a token.

        Args:
            token: As it came from the client.

        Raises:
            TokenMissing: It is None.
            TokenInvalid: It is not signed so, not by the issuer, not for us, or not good yet.
            TokenExpired: It has expired.
        """
        token = taken(token, self._max_size)
        algorithm, _ = self._jose.read_header(token)
        if algorithm != self._algorithm:
            raise TokenInvalid(f"the token is signed by {algorithm}, expected {self._algorithm}")
        return self._claims.checked(self._jose.verify(token, self._keys))


class JWKSVerifier:
    """Verify JWTs of an identity provider with the public keys that it serves.

    The key set is fetched when the first token comes, and kept: it is fetched anew every ten
    minutes, and when a token names a key that is not in it, at most every ten seconds. While the
    provider can't be reached, the keys are used for a day more. A verifier can be used from several
    event loops, one after the other; each fetches its own. Needs ``pip install "roost[tokens]"``.

    Args:
        url: Of the JSON Web Key Set, which the provider's ``/.well-known/openid-configuration``
            names ``jwks_uri``.
        issuer: Whose tokens are good: ``iss`` has to be it, or one of them; None if any may be.
        audience: Whom they have to be for: ``aud`` has to be it, to have it, or one of them; None
            if it does not matter. Where one provider serves several applications, it does.
        algorithms: How they may be signed; of a key that does not say which, its type decides.
        fetch: An async function from the URL to what is there, as bytes, for example by your HTTP
            client; by default urllib, in a thread.
        timeout: Seconds after which a fetch is given up.
        leeway: By how many seconds the provider's clock may differ from ours.
        max_size: Longer tokens are refused.

    Raises:
        ConfigurationError: An option can't work, or joserfc is not installed.

    Example:
        >>> google = JWKSVerifier(
        ...     "https://www.googleapis.com/oauth2/v3/certs",
        ...     issuer=["https://accounts.google.com", "accounts.google.com"],
        ...     audience="your-client-id.apps.googleusercontent.com",
        ... )
    """

    def __init__(
        self,
        url: str,
        *,
        issuer: Names,
        audience: Names,
        algorithms: Sequence[Algorithm] = ("RS256", "ES256", "EdDSA"),
        fetch: Fetch | None = None,
        timeout: float = 5.0,
        leeway: float = _LEEWAY,
        max_size: int = MAX_TOKEN_SIZE,
    ) -> None:
        with installed("JWKSVerifier"):
            from roost.tokens import jose
        self._jose = jose
        wrong = [name for name in algorithms if name not in ASYMMETRIC]
        if wrong or isinstance(algorithms, str) or not algorithms:
            raise ConfigurationError(
                f"algorithms: expected some of {', '.join(ASYMMETRIC)}, got {algorithms!r}: "
                "what is public can't be a secret"
            )
        if not 0 < timeout <= 60:
            raise ConfigurationError(f"timeout: expected up to 60 seconds, got {timeout}")
        self._url = check_url(url) if fetch is None else url
        self._fetch = self._by_urllib if fetch is None else fetch
        self._timeout = timeout
        self._algorithms = tuple(algorithms)
        self._claims = _ClaimChecks(issuer, audience, leeway)
        self._max_size = check_size(max_size)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._key_set: KeySet | None = None

    async def verify(self, token: str | None) -> Verified:
        """The claims of a token.

        Args:
            token: As it came from the client.

        Raises:
            TokenMissing: It is None.
            TokenInvalid: It is not signed so, not by the issuer, not for us, or not good yet.
            TokenExpired: It has expired.
            KeysUnavailable: There are no keys; this says nothing about the token.
        """
        token = taken(token, self._max_size)
        algorithm, key_id = self._jose.read_header(token)
        if algorithm not in self._algorithms:
            expected = " or ".join(self._algorithms)
            raise TokenInvalid(f"the token is signed by {algorithm}, expected {expected}")
        keys = await self._keys_of_this_loop().find(algorithm, key_id)
        return self._claims.checked(self._jose.verify(token, keys))

    def _keys_of_this_loop(self) -> KeySet:
        loop = asyncio.get_running_loop()
        if self._key_set is None or loop is not self._loop:
            self._loop = loop
            self._key_set = KeySet(
                self._url, fetch=self._fetch, read=self._read, timeout=self._timeout
            )
        return self._key_set

    def _read(self, document: bytes) -> list[Any]:
        return self._jose.import_key_set(document, self._algorithms)

    async def _by_urllib(self, url: str) -> bytes:
        from roost.tokens.fetching import fetch_by_urllib  # most applications do without

        return await fetch_by_urllib(url, self._timeout)


class _ClaimChecks:
    """Who a token has to be of, whom it has to be for, and when it is good."""

    def __init__(self, issuer: Names, audience: Names, leeway: float) -> None:
        with installed("a JWT"):
            from roost.tokens import jose
        self._check = jose.check_claims
        self._issuers = _several(issuer, "issuer")
        self._audiences = _several(audience, "audience")
        self._leeway = check_leeway(leeway)

    def checked(self, claims: dict[str, Any]) -> Verified:
        self._check(
            claims,
            issuers=self._issuers,
            audiences=self._audiences,
            now=time.time(),
            leeway=self._leeway,
        )
        try:
            signed_at = float(claims["iat"]) if "iat" in claims else None
            return Verified(claims, signed_at, expires_at=float(claims["exp"]))
        except OverflowError as error:  # JSON has integers that are no times
            raise TokenInvalid("the token's claims: exp, or iat, is no time") from error


def _several(names: Names, argument: str) -> list[str] | None:
    if names is None:
        return None
    several = [names] if isinstance(names, str) else list(names)
    if not several or not all(isinstance(name, str) and name for name in several):
        raise ConfigurationError(f"{argument}: expected a name, or several, got {names!r}")
    return several
