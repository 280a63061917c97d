"""Which web pages may connect: the check of the ``Origin`` header.

Browsers send cookies along with WebSocket handshakes from any page, so the page's origin is what
keeps strangers' pages out. Clients that are no browsers send no origin, and pass.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from roost.asgi.types import Scope
from roost.channels.application import Failed, call_sync
from roost.exceptions import ConfigurationError

__all__ = ["CheckOrigin", "Origin", "OriginPolicy", "header"]

logger = logging.getLogger("roost.asgi")

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
# What browsers encode as IDNA 2008 says, and Python's codec as the older version does: the German
# sharp s, the Greek final sigma, and the joiners.
_CHANGED_IN_2008: Final = frozenset("\u00df\u03c2\u200c\u200d")


class Origin(msgspec.Struct, frozen=True):
    """A parsed ``Origin`` header; parts that are missing are None."""

    scheme: str | None
    host: str | None
    port: int | None


CheckOrigin: TypeAlias = bool | Literal["conn"] | Collection[str] | Callable[[Origin], bool]
"""True: the request's own host; False: no check; ``"conn"``: scheme, host and port of the request;
a list: hosts as in ``Endpoint(hosts=…)``; or a function of the origin."""


class OriginPolicy:
    """Decide whether the origin of a request is allowed.

    Args:
        check: What is allowed; entries of a list are ``"example.com"``, ``"*.example.com"`` (any
            depth, and example.com itself), ``"//example.com:81"``, or ``"https://example.com"``,
            which fixes the scheme and its default port. Hosts may be written in any script.

    Raises:
        ConfigurationError: An entry is none of these, and would never match.
    """

    __slots__ = ("_check", "_entries")

    def __init__(self, check: CheckOrigin) -> None:
        self._check = check
        self._entries: list[Origin] = []
        if isinstance(check, bool) or callable(check) or check == "conn":
            return
        if isinstance(check, str) or not isinstance(check, Collection):
            raise ConfigurationError(f"hosts must be a list, got {check!r}")
        self._entries = [_entry(each) for each in check]

    def allows(self, scope: Scope) -> bool:
        """Whether the request of ``scope`` may go on."""
        check = self._check
        value = header(scope, b"origin")
        if value is None or check is False:
            return True
        origin = _parse(value)
        if callable(check):
            try:
                return bool(call_sync(None, check, origin))
            except Failed as failed:
                logger.error("%s failed, the origin is refused", failed.name, exc_info=failed.error)
                return False
        if origin.host is None:
            return False
        if check is True:
            return origin.host == _own(scope).host
        if check == "conn":
            return origin == _own(scope)
        return any(_matches(entry, origin) for entry in self._entries)


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The first header of that name (lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def _parse(value: str) -> Origin:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return Origin(None, None, None)
    scheme = parts.scheme or None
    return Origin(scheme, parts.hostname or None, port or _DEFAULT_PORTS.get(parts.scheme))


def _own(scope: Scope) -> Origin:
    """The origin that the request itself went to."""
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "http"), scope.get("scheme"))
    return _parse(f"{scheme}://{header(scope, b'host') or ''}")


def _entry(text: object) -> Origin:
    """An entry of a list; raises for what browsers never send, which would never match."""
    if not isinstance(text, str):
        raise _no_host(text, "it is no text")
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _no_host(text, f"it is not a host: {error}") from error
    if not host:
        raise _no_host(text, "it has no host")
    if host == "null":
        raise _no_host(
            text, "pages without an origin can only be allowed by a function, as check_origin"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise _no_host(text, "an origin is a scheme, a host and a port")
    if host == "*":
        raise _no_host(text, "check_origin=False allows every host")
    wildcard, dot, domain = host.rpartition("*.")
    if "*" in domain or (dot and wildcard):
        raise _no_host(text, "* stands for whole names in front of a domain only")
    return Origin(
        parts.scheme or None,
        f"{dot}{_ascii(text, domain)}",
        port or _DEFAULT_PORTS.get(parts.scheme),
    )


def _ascii(text: str, host: str) -> str:
    """The host as browsers write it."""
    if host.isascii():
        if ":" not in host and not _HOST.fullmatch(host):  # with colons it is an IPv6 address
            raise _no_host(text, "the host has characters that none may have")
        return host
    try:
        if _CHANGED_IN_2008.isdisjoint(host):
            return host.encode("idna").decode()
    except UnicodeError:
        pass
    raise _no_host(text, "give the host in the form xn--…")


def _no_host(text: object, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text!r} can't be among the hosts that may connect: {reason}; expected example.com, "
        "*.example.com, //example.com:81 or https://example.com"
    )


def _matches(entry: Origin, origin: Origin) -> bool:
    assert entry.host is not None
    assert origin.host is not None
    if entry.scheme is not None and entry.scheme != origin.scheme:
        return False
    if entry.port is not None and entry.port != origin.port:
        return False
    if entry.host.startswith("*."):
        domain = entry.host[2:]
        return origin.host == domain or origin.host.endswith(f".{domain}")
    return origin.host == entry.host
