"""What comes in as a token, and what a good one says."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

from roost.exceptions import ConfigurationError, TokenExpired, TokenInvalid, TokenMissing

__all__ = ["DEFAULT_MAX_AGE", "MAX_TOKEN_SIZE", "Verified"]

DEFAULT_MAX_AGE: Final = 86400.0  # seconds: a day, as in Phoenix
MAX_TOKEN_SIZE: Final = 8192  # characters; servers take no longer lines in a request's head


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good token says.

    Args:
        data: What was signed or encrypted; of a JWT, its claims.
        signed_at: When it was made, in seconds since 1970; None if it does not say.
        expires_at: From when on it is refused, in seconds since 1970; ``math.inf`` if never.

    Example:
        >>> Verified({"user_id": 7}, signed_at=1700000000.0, expires_at=math.inf).expires_in()
        inf
    """

    data: Any
    signed_at: float | None
    expires_at: float

    def expires_in(self) -> float:
        """How many seconds from now it expires: negative if it has, while clocks may differ."""
        return self.expires_at - time.time()


def taken(token: object, max_size: int) -> str:
    """The token, if it may be one: all that is done before anything of it is decoded.

    Raises:
        TokenMissing: It is None.
        TokenInvalid: It is not text, not ASCII, or too long.
    """
    if token is None:
        raise TokenMissing
    if not isinstance(token, str):
        raise TokenInvalid(f"a token is text, not {type(token).__name__}")
    if len(token) > max_size:
        raise TokenInvalid(f"the token has {len(token)} characters, more than {max_size}")
    if not token.isascii():
        raise TokenInvalid("the token is not ASCII")
    return token


def check_size(max_size: int) -> int:
    """``max_size``, if it bounds anything."""
    if not 0 < max_size <= 1 << 20:
        raise ConfigurationError(f"max_size: expected 1 to {1 << 20} characters, got {max_size}")
    return max_size


def check_max_age(max_age: float) -> float:
    """``max_age``, if tokens can be that old; ``math.inf`` must be asked for by name."""
    if not max_age > 0:  # also for NaN
        raise ConfigurationError(f"max_age: expected a positive number of seconds, got {max_age}")
    return max_age


def check_leeway(leeway: float) -> float:
    """``leeway``, if clocks may differ by it."""
    if not 0 <= leeway < math.inf:
        raise ConfigurationError(f"leeway: expected a number of seconds, got {leeway}")
    return leeway


def check_times(verified: Verified, leeway: float, now: float | None = None) -> Verified:
    """``verified``, if it was made before now and expires after it.

    Args:
        verified: What a token says.
        leeway: By how many seconds the clocks of who made it and who verifies it may differ.
        now: In seconds since 1970; by default the time.

    Raises:
        TokenInvalid: It was made in the future.
        TokenExpired: It has expired.
    """
    now = time.time() if now is None else now
    if verified.signed_at is not None and verified.signed_at > now + leeway:
        raise TokenInvalid("the token was made in the future: compare the machines' clocks")
    if verified.expires_at + leeway <= now:
        raise TokenExpired(verified.expires_at)
    return verified
