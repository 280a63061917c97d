"""What a ``zenoh://`` URL says, and the configuration of the engine that follows from it."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from roost.exceptions import ConfigurationError

__all__ = [
    "DEFAULT_PORT",
    "LEASE_PERIOD",
    "OPEN_TIMEOUT",
    "Address",
    "ZenohSettings",
    "parse_zenoh_url",
]

DEFAULT_PORT = 7447  # zenoh's own

LEASE_PERIOD = (
    3.0  # seconds of silence until a peer counts as cut off; 0.75 s between signs of life
)

# By default 10 s: so much later would a seed be joined that comes back from behind a cut.
OPEN_TIMEOUT = 2.0  # seconds

# A peer that does not read holds up the others once for this long. Then what is for it is dropped
# at once, until it reads again, and it counts what it missed by the numbers that messages carry.
# Measured with 20,000 messages a second to two peers, one of them stopped: the other saw no
# message later than 102 ms (BLOCK: 5 s or, with a shorter wait_before_close, that, and a link that
# is closed; zenoh's default of 1 ms to DROP: 4 ms, but bursts are lost on links that just are
# slow; BLOCK_FIRST: lost messages to the healthy peer, at half the throughput).
_MAX_STALL = 0.1  # seconds
_MAX_STALL_OF_FRAGMENTS = 1.0  # seconds: a message over 64 KiB goes in several parts

_MAX_MESSAGE_SIZE = 256 * 1024 * 1024  # bytes

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_PARAMETERS = (
    "listen",
    "multicast",
    "namespace",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "tls_verify_name",
)


@dataclass(frozen=True)
class Address:
    """A host, by name or number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_number(self) -> bool:
        """Whether the host is an IP address, which needs no resolving."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine by definition."""
        return self.host == "localhost" or (
            self.is_number and ipaddress.ip_address(self.host).is_loopback
        )


@dataclass(frozen=True)
class ZenohSettings:
    """What a URL says.

    Attributes:
        seeds: Nodes to connect to; the others are learnt from them.
        listen: Where to listen; empty for the default.
        namespace: Only nodes of one namespace hear each other.
        multicast: Whether to look for nodes, and be found, by UDP multicast.
        user, password: Credentials of the cluster, both or none.
        tls_ca, tls_cert, tls_key: Paths of the cluster's authority, and of the certificate and key
            of this node; all or none. With them only who has a certificate of the authority joins.
        tls_verify_name: Whether a node's certificate must also name its address.
    """

    seeds: tuple[Address, ...] = ()
    listen: tuple[Address, ...] = ()
    namespace: str = "roost"
    multicast: bool = False
    user: str = ""
    password: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_verify_name: bool = False

    def __str__(self) -> str:
        """The URL without credentials."""
        scheme = "zenohs" if self.is_tls else "zenoh"
        return f"{scheme}://{','.join(map(str, self.seeds))}"

    def __repr__(self) -> str:
        return f"<ZenohSettings {self}>"

    @property
    def is_tls(self) -> bool:
        return bool(self.tls_ca)

    def endpoint(self, address: Address) -> str:
        """How zenoh spells an address."""
        return f"{'tls' if self.is_tls else 'tcp'}/{address}"

    def check_files(self) -> None:
        """Raise if a file that the URL names can't be read.

        Raises:
            ConfigurationError: Says which.
        """
        for parameter in ("tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, parameter)
            if path and not os.access(path, os.R_OK):
                raise ConfigurationError(f"{self}: {parameter}={path} is not there, or not ours")

    def engine_config(
        self, *, listen: list[str], connect: list[str], dictionary_file: str | None = None
    ) -> dict[str, Any]:
        """Key → value of the engine's configuration.

        Args:
            listen: Endpoints to listen on.
            connect: Endpoints to connect to, again and again until each is there.
            dictionary_file: Holds the credentials that others must show.
        """
        config: dict[str, Any] = {
            "mode": "peer",
            "listen/endpoints": listen,
            "connect/endpoints": connect,
            "connect/timeout_ms": -1,  # try for ever
            "connect/exit_on_failure": False,
            "connect/retry": {
                "period_init_ms": 100,
                "period_max_ms": 2000,
                "period_increase_factor": 2,
            },
            "scouting/multicast/enabled": self.multicast,
            "scouting/gossip/enabled": True,
            # Nobody gossips us into a connection in the clear.
            "transport/link/protocols": ["tls" if self.is_tls else "tcp", "unixsock-stream"]
            + (["udp"] if self.multicast else []),
            "transport/unicast/open_timeout": int(OPEN_TIMEOUT * 1000),
            "transport/link/tx/lease": int(LEASE_PERIOD * 1000),
            "transport/link/tx/queue/congestion_control/drop": {
                "wait_before_drop": int(_MAX_STALL * 1e6),
                "max_wait_before_drop_fragments": int(_MAX_STALL_OF_FRAGMENTS * 1e6),
            },
            # Must stay on, though declarations then overtake messages: with a single queue, zenoh
            # never takes back that it was congested, and drops all until the link is closed.
            "transport/unicast/qos/enabled": True,
            "transport/link/rx/max_message_size": _MAX_MESSAGE_SIZE,
            # Saves a copy between processes, but kill -9 would leave segments in /dev/shm.
            "transport/shared_memory/enabled": False,
        }
        if self.user:
            config["transport/auth/usrpwd"] = {
                "user": self.user,
                "password": self.password,
                "dictionary_file": dictionary_file,
            }
        if self.is_tls:
            config["transport/link/tls"] = {
                "root_ca_certificate": self.tls_ca,
                "enable_mtls": True,
                "listen_certificate": self.tls_cert,
                "listen_private_key": self.tls_key,
                "connect_certificate": self.tls_cert,
                "connect_private_key": self.tls_key,
                "verify_name_on_connect": self.tls_verify_name,
            }
        return config


def parse_zenoh_url(url: str, namespace: str | None = None) -> ZenohSettings:
    """Read a URL: ``zenoh[s]://[user:password@][host[:port],…][?parameter=value&…]``.

    Args:
        url: What to read.
        namespace: Used if the URL has none.

    Raises:
        ConfigurationError: It can't be used; the message has no credentials.

    Example:
        >>> print(parse_zenoh_url("zenoh://user:secret@10.0.0.5,[::1]:7448?namespace=chat"))
        zenoh://10.0.0.5:7447,[::1]:7448
    """
    parts = urlsplit(url)
    if parts.scheme not in {"zenoh", "zenohs"}:
        raise ConfigurationError(f"expected zenoh:// or zenohs://, got {parts.scheme!r}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    if parts.path not in {"", "/"} or parts.fragment:
        raise ConfigurationError(f"{parts.scheme}://{hosts}: expected no path and no fragment")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := given.keys() - set(_PARAMETERS):
        raise ConfigurationError(
            f"{parts.scheme}://{hosts}: unknown {', '.join(sorted(unknown))}; "
            f"there are {', '.join(_PARAMETERS)}"
        )
    user, password = _credentials(credentials, hosts)
    settings = ZenohSettings(
        seeds=_addresses(hosts),
        listen=_addresses(given.get("listen", "")),
        namespace=_namespace(given.get("namespace", namespace or "roost")),
        multicast=_flag("multicast", given.get("multicast", "false")),
        user=user,
        password=password,
        tls_ca=given.get("tls_ca", ""),
        tls_cert=given.get("tls_cert", ""),
        tls_key=given.get("tls_key", ""),
        tls_verify_name=_flag("tls_verify_name", given.get("tls_verify_name", "false")),
    )
    tls = (settings.tls_ca, settings.tls_cert, settings.tls_key)
    if (parts.scheme == "zenohs" or any(tls)) and not all(tls):
        raise ConfigurationError(
            f"zenohs://{hosts}: tls_ca, tls_cert and tls_key are all needed: each node both "
            "connects to others and is connected to, and shows its certificate"
        )
    return settings


def _credentials(text: str, hosts: str) -> tuple[str, str]:
    user, _, password = (unquote(part) for part in text.partition(":"))
    if not text:
        return "", ""
    # They go through a file of lines "user:password", which zenoh strips.
    for word, what in ((user, "user"), (password, "password")):
        if not word or word != word.strip() or len(word.splitlines()) > 1:
            raise ConfigurationError(
                f"zenoh://{hosts}: expected user:password before the @, none of them empty and "
                f"without blanks around; the {what} is none of this"
            )
    if ":" in user:
        raise ConfigurationError(f"zenoh://{hosts}: a user can't contain a colon")
    return user, password


def _addresses(text: str) -> tuple[Address, ...]:
    return tuple(_address(word.strip()) for word in text.split(",") if word.strip())


def _address(text: str) -> Address:
    found = re.fullmatch(
        r"(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<host>[^:\[\]/]+))(?::(?P<port>\d+))?", text
    )
    if found is None or int(found["port"] or 0) > 65535:
        raise ConfigurationError(f"expected host, host:port or [IPv6]:port, got {text!r}")
    return Address(found["v6"] or found["host"], int(found["port"] or DEFAULT_PORT))


def _namespace(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", text):
        raise ConfigurationError(
            f"expected a namespace of letters, digits, '.', '_' and '-', got {text!r}"
        )
    return text


def _flag(parameter: str, text: str) -> bool:
    if (value := _FLAGS.get(text.lower())) is None:
        raise ConfigurationError(f"expected {parameter}=true or false, got {text!r}")
    return value


def key_of(name: str) -> str:
    """A node's name as one chunk of a key expression, where ``*``, ``/`` and ``@`` mean things."""
    return quote(name, safe="")
