"""Where a node listens: decided before the session opens, so that its port is known."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Sequence

from roost.exceptions import AdapterError
from roost.pubsub.zenoh.settings import Address, ZenohSettings

__all__ = ["listening_addresses", "reachable_address", "warn_of_strangers"]

logger = logging.getLogger("roost.pubsub")


def listening_addresses(
    settings: ZenohSettings, own_seeds: Sequence[Address], *, has_siblings: bool
) -> list[Address]:
    """Where to listen: each port is free now, and none is left to the engine to choose.

    Without a choice of the user it is where others look for a seed of this machine: at the first
    that is free, so that of several nodes on one machine each is a seed while there are some. If
    the first one hangs, the others still find each other.

    Args:
        settings: What the URL says.
        own_seeds: Which of the seeds are addresses of this machine, by number.
        has_siblings: Whether any port will do, as siblings are found without it.

    Raises:
        AdapterError: An address of the URL can't be listened on.
    """
    if settings.listen:
        # One of several workers gets the port; it names the others to newcomers.
        return [_claim(settings, [at], or_any_port=has_siblings) for at in settings.listen]
    if not settings.seeds:
        return [_claim(settings, [_everywhere(0)], or_any_port=True)] if settings.multicast else []
    first = settings.seeds[0].port
    if all(seed.is_loopback for seed in settings.seeds):
        # A name such as localhost may stand for two addresses: one of them is enough.
        places = {seed.port: seed for seed in sorted(own_seeds, key=lambda at: ":" not in at.host)}
        wanted = [places[port] for port in dict.fromkeys(seed.port for seed in own_seeds)]
        return [_claim(settings, wanted or [Address("127.0.0.1", first)], or_any_port=True)]
    ports = dict.fromkeys(seed.port for seed in own_seeds) or [first]
    return [_claim(settings, [_everywhere(port) for port in ports], or_any_port=True)]


def _everywhere(port: int) -> Address:
    return Address("::" if socket.has_dualstack_ipv6() else "0.0.0.0", port)


def _claim(settings: ZenohSettings, addresses: Sequence[Address], *, or_any_port: bool) -> Address:
    """The first of the addresses that is free; else any port of the first, if that will do."""
    for address in addresses:
        try:
            return _probe(address)
        except OSError as error:
            is_taken = error.errno == errno.EADDRINUSE and address.port
            if not is_taken or not or_any_port:
                raise AdapterError(
                    str(settings), f"can't listen on {address}: {error.strerror or error}"
                ) from None
            logger.info("%s: %s is taken, listening on another port", settings, address)
    return _claim(settings, [Address(addresses[0].host, 0)], or_any_port=False)


def _probe(address: Address) -> Address:
    """The address, with a port if it had none.

    Raises:
        OSError: It can't be listened on.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))
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
