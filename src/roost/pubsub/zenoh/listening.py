"""Where a node listens: decided before the session opens, so that its port is known."""

from __future__ import annotations

import errno
import logging
import os
import socket

from roost.exceptions import AdapterError
from roost.pubsub.zenoh.settings import Address, ZenohSettings

__all__ = ["listening_addresses", "reachable_address", "warn_of_strangers"]

logger = logging.getLogger("roost.pubsub")


def listening_addresses(settings: ZenohSettings, *, has_siblings: bool) -> list[Address]:
    """Where to listen: each port is free now, and none is left to the engine to choose.

    Raises:
        AdapterError: An address of the URL can't be listened on.
    """
    if settings.listen:
        # One of several workers gets the port; it tells newcomers of the others.
        return [_claim(settings, at, or_any_port=has_siblings) for at in settings.listen]
    if not settings.seeds:
        return [_claim(settings, _everywhere(0), or_any_port=True)] if settings.multicast else []
    port = settings.seeds[0].port
    if all(seed.is_loopback for seed in settings.seeds):
        return [_claim(settings, Address("127.0.0.1", port), or_any_port=True)]
    return [_claim(settings, _everywhere(port), or_any_port=True)]


def _everywhere(port: int) -> Address:
    return Address("::" if socket.has_dualstack_ipv6() else "0.0.0.0", port)


def _claim(settings: ZenohSettings, address: Address, *, or_any_port: bool) -> Address:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and or_any_port and address.port:
                logger.info("%s: %s is taken, listening on another port", settings, address)
                return _claim(settings, Address(address.host, 0), or_any_port=False)
            raise AdapterError(
                str(settings), f"can't listen on {address}: {error.strerror or error}"
            ) from None
        return Address(address.host, probe.getsockname()[1])


def reachable_address(address: Address) -> Address:
    """How we reach ourselves, where we listen on all interfaces."""
    if address.host in {"::", "0.0.0.0"}:
        return Address("127.0.0.1", address.port)
    return address


def warn_of_strangers(settings: ZenohSettings, listening: list[Address]) -> None:
    exposed = [str(address) for address in listening if not address.is_loopback]
    if exposed and not settings.user and not settings.is_tls:
        logger.warning(
            "%s: listening on %s without credentials or certificates: whoever reaches that can "
            "read and send everything; give user:password@ or zenohs://",
            settings,
            ", ".join(exposed),
        )
