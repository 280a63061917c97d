"""Fetch a key set by HTTPS, with nothing but the standard library."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from http.client import HTTPMessage
from typing import IO, Final

from roost.tokens.key_sets import MAX_DOCUMENT_SIZE

__all__ = ["fetch_by_urllib"]

_CHUNK_SIZE: Final = 16 * 1024


async def fetch_by_urllib(url: str, timeout: float) -> bytes:
    """What ``url`` serves, fetched in a thread.

    Redirects are not followed: they could lead to anybody.

    Raises:
        OSError: It can't be fetched, takes longer than ``timeout`` seconds, or is too large.
    """
    return await asyncio.to_thread(_fetch, url, timeout)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _fetch(url: str, timeout: float) -> bytes:
    give_up_at = time.monotonic() + timeout
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    opener = urllib.request.build_opener(_NoRedirects)
    document = b""
    with opener.open(request, timeout=timeout) as response:
        # The timeout is one for each read: whoever sends a byte a second would never meet it.
        while chunk := response.read1(_CHUNK_SIZE):
            document += chunk
            if len(document) > MAX_DOCUMENT_SIZE:
                raise OSError(f"it has more than {MAX_DOCUMENT_SIZE} bytes")
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"it takes longer than {timeout} s")
    return document
