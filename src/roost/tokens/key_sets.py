"""The keys of an identity provider: fetched when they are needed, and kept.

What decides when to fetch:

- There are none yet: whoever comes waits for the one fetch that is under way.
- They are older than ``FRESH_PERIOD``: fetched anew beside, while the old ones are used.
- They are older than ``STALE_PERIOD``, because fetching has failed for so long: as if there were
  none. A key that the provider has taken back must not be good for ever.
- A token names a key that is not among them: the provider may have new ones. As anybody can make up
  names, that happens at most every ``FETCH_INTERVAL``.

Whatever the cause, there is one fetch at a time, and after one, failed or not, none for
``FETCH_INTERVAL``. A failed one leaves the keys as they are.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from roost.exceptions import ConfigurationError, KeysUnavailable, TokenInvalid

if TYPE_CHECKING:
    from roost.tokens.jose import VerifyingKey

__all__ = ["MAX_DOCUMENT_SIZE", "Fetch", "KeySet", "check_url"]

logger = logging.getLogger("roost.tokens")

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
"""Returns what a URL serves, or raises."""

MAX_DOCUMENT_SIZE: Final = 256 * 1024  # bytes; those of the large providers have less than 10 kB
FRESH_PERIOD: Final = 600.0  # seconds
STALE_PERIOD: Final = 24 * 3600.0  # seconds
FETCH_INTERVAL: Final = 10.0  # seconds


def check_url(url: str) -> str:
    """``url``, if nobody on the way could put keys of their own there.

    Raises:
        ConfigurationError: It is not https; http only goes to this machine itself.
    """
    parts = urlsplit(url)
    if parts.hostname and (
        parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
    ):
        return url
    raise ConfigurationError(f"url: expected https://…, got {url!r}")


class KeySet:
    """The keys at a URL, as one event loop knows them.

    Args:
        url: Where they are.
        fetch: Fetches them.
        read: Makes keys of what was fetched; raises ValueError if it is no key set.
        timeout: Seconds after which a fetch is given up.
    """

    def __init__(
        self,
        url: str,
        *,
        fetch: Fetch,
        read: Callable[[bytes], Collection[VerifyingKey]],
        timeout: float,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._read = read
        self._timeout = timeout
        self._keys: Collection[VerifyingKey] = ()
        self._fetched_at = 0.0  # in the loop's time, as all times here
        self._may_fetch_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._failure: str | None = None  # of the last fetch

    async def find(self, algorithm: str, key_id: str | None) -> list[VerifyingKey]:
        """The keys that may have signed a token.

        Args:
            algorithm: That the token was signed by.
            key_id: That it names; None if it names none, so that all of the algorithm may have.

        Raises:
            KeysUnavailable: None could be fetched, or not for a long time.
            TokenInvalid: There are none of that name and algorithm.
        """
        await self._have_keys()
        found = self._known(algorithm, key_id)
        if not found and (self._fetching or self._may_fetch()):
            await self._fetched()
            found = self._known(algorithm, key_id)
        if not found:
            if self._failure is not None:  # it may be among those that could not be fetched
                raise KeysUnavailable(self._url, self._failure)
            raise TokenInvalid("the token was signed with a key that its issuer does not have")
        return found

    def _known(self, algorithm: str, key_id: str | None) -> list[VerifyingKey]:
        return [
            key
            for key in self._keys
            if key.algorithm == algorithm and (key_id is None or key.key_id == key_id)
        ]

    async def _have_keys(self) -> None:
        age = self._now() - self._fetched_at
        if self._keys and age < STALE_PERIOD:
            if age >= FRESH_PERIOD and self._fetching is None and self._may_fetch():
                self._start()
            return
        if self._fetching or self._may_fetch():
            await self._fetched()
        if self._failure is not None:
            raise KeysUnavailable(self._url, self._failure)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _may_fetch(self) -> bool:
        return self._now() >= self._may_fetch_at

    async def _fetched(self) -> None:
        """Wait for the end of the fetch that is under way, or of a new one."""
        # Who waits may be cancelled, as a connection that is closed: the others go on waiting.
        await asyncio.shield(self._fetching or self._start())

    def _start(self) -> asyncio.Task[None]:
        self._fetching = asyncio.create_task(self._run(), name=f"keys of {self._url}")
        return self._fetching

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                document = await self._fetch(self._url)
            if not isinstance(document, bytes):
                raise TypeError(f"fetch returned {type(document).__name__}, expected bytes")
            if len(document) > MAX_DOCUMENT_SIZE:
                raise ValueError(f"it has more than {MAX_DOCUMENT_SIZE} bytes")
            self._keys = self._read(document)
            self._fetched_at = self._now()
            self._failure = None
        except Exception as error:  # whatever the application's fetch raises
            is_late = isinstance(error, TimeoutError)
            self._failure = f"no answer in {self._timeout} s" if is_late else _reason(error)
            logger.warning("no keys from %s: %s", self._url, self._failure)
        except asyncio.CancelledError:
            self._failure = "it was cancelled"
            raise
        finally:
            self._may_fetch_at = self._now() + FETCH_INTERVAL
            self._fetching = None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
