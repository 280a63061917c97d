"""The secrets that an application gives: several, so that they can be rotated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from roost.exceptions import ConfigurationError

__all__ = ["MAX_SECRETS", "Secret", "SecretsLike", "given_salt", "given_secrets", "installed"]

Secret: TypeAlias = str | bytes
"""Random text or bytes that nobody else knows."""

SecretsLike: TypeAlias = Secret | list[Secret] | tuple[Secret, ...]
"""One secret, or several: the first makes tokens, all of them verify."""

_MAKE_ONE: Final = "python -c 'import secrets; print(secrets.token_urlsafe(48))' makes one"
MAX_SECRETS: Final = 16  # each of them is tried on a token of a stranger


def given_secrets(secrets: SecretsLike, *, argument: str, min_size: int) -> list[bytes]:
    """The secrets as bytes, in their order.

    Raises:
        ConfigurationError: There is none, one is too short to be random enough, or they are many.
    """
    several = list(secrets) if isinstance(secrets, (list, tuple)) else [secrets]
    if not 0 < len(several) <= MAX_SECRETS:
        raise ConfigurationError(
            f"{argument}: expected one to {MAX_SECRETS} secrets, got {len(several)}"
        )
    found = []
    for secret in several:
        if not isinstance(secret, (str, bytes)):
            raise ConfigurationError(
                f"{argument}: expected text or bytes, got {type(secret).__name__}: is the "
                "environment variable set?"
            )
        given = secret.encode() if isinstance(secret, str) else secret
        if len(given) < min_size:
            raise ConfigurationError(
                f"{argument}: a secret of {len(given)} bytes can be guessed, expected at least "
                f"{min_size}: {_MAKE_ONE}"
            )
        found.append(given)
    return found


def given_salt(salt: object) -> bytes:
    """The salt as bytes.

    Raises:
        ConfigurationError: It is not text, or empty.
    """
    if not isinstance(salt, str) or not salt:
        raise ConfigurationError(
            f"salt: expected text that says what the tokens are for, as 'user socket', got {salt!r}"
        )
    return salt.encode()


@contextmanager
def installed(who: str) -> Iterator[None]:
    """Say what to install, if an import in the block fails for want of it.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {"joserfc", "cryptography"}:
            raise
        raise ConfigurationError(
            f'{who} needs {error.name}: pip install "roost[tokens]"'
        ) from error
