"""Adapters by URL: what an environment variable can say."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from roost.exceptions import ConfigurationError
from roost.pubsub.adapter import Adapter
from roost.pubsub.local import LocalAdapter

__all__ = ["adapter_for"]

# Scheme → where its adapter is; imported when it is asked for, since each needs its own engine.
_ADAPTERS = {
    "zenoh": ("roost.pubsub.zenoh", "ZenohAdapter"),
    "zenohs": ("roost.pubsub.zenoh", "ZenohAdapter"),
    "redis": ("roost.pubsub.redis", "RedisAdapter"),
    "rediss": ("roost.pubsub.redis", "RedisAdapter"),
    "valkey": ("roost.pubsub.redis", "RedisAdapter"),
    "valkeys": ("roost.pubsub.redis", "RedisAdapter"),
    "unix": ("roost.pubsub.redis", "RedisAdapter"),  # what redis-py calls a socket's path
    "nats": ("roost.pubsub.nats", "NatsAdapter"),
    "tls": ("roost.pubsub.nats", "NatsAdapter"),  # what NATS itself calls it
}

_ENTRY_POINTS = "roost.adapters"


def adapter_for(url: str | None = None, node_name: str | None = None) -> Adapter:
    """Make the adapter that a URL names.

    Args:
        url: ``auto``, the default: alone, or with the other workers of the server; ``local``:
            alone; ``zenoh://…``, ``redis://…`` or ``nats://…``, with TLS ``zenohs``, ``rediss`` or
            ``tls``; or a scheme of another package, which offers a callable with the parameters
            ``url`` and ``node_name`` as an entry point of the group ``roost.adapters``.
        node_name: Name of this node; by default unique.

    Raises:
        ConfigurationError: Nobody knows the scheme, the adapter can't use the URL, or its engine
            is not installed.

    Example:
        >>> adapter_for("local", "web-1").node_name
        'web-1'
    """
    scheme = (url or "auto").partition(":")[0].lower()
    if scheme == "auto":
        return _make("roost.pubsub.auto", "AutoAdapter", node_name)
    if scheme == "local":
        return LocalAdapter(node_name)
    if scheme in _ADAPTERS:
        return _make(*_ADAPTERS[scheme], url, node_name=node_name)
    found = importlib.metadata.entry_points(group=_ENTRY_POINTS, name=scheme)
    for entry_point in found:
        made: Adapter = entry_point.load()(url, node_name=node_name)
        return made
    # What was given may be a password in a wrong place: only what looks like a scheme is shown.
    shown = repr(scheme) if url is not None and "://" in url and scheme.isidentifier() else "a text"
    raise ConfigurationError(
        f"{shown} names no adapter: expected auto, local, or a URL with one of "
        f"{', '.join(_known_schemes())}"
    )


def _make(module: str, name: str, *args: Any, **options: Any) -> Adapter:
    made: Adapter = getattr(importlib.import_module(module), name)(*args, **options)
    return made


def _known_schemes() -> list[str]:
    others = importlib.metadata.entry_points(group=_ENTRY_POINTS).names
    return sorted({*_ADAPTERS, *others})
