"""What the URLs of Redis and NATS say to roost itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roost.exceptions import ConfigurationError
from roost.pubsub.nats import NatsAdapter
from roost.pubsub.redis import RedisAdapter
from roost.pubsub.urls import adapter_for


@pytest.mark.parametrize(
    "url",
    [
        "redis://db:6379/0?namespace=chat",
        "redis://db?namespace=chat&health_check_interval=5",
        "unix:///run/redis.sock?namespace=chat",
        "nats://one,two:4223?namespace=chat",
    ],
)
def test_a_namespace_in_the_url(url: str):
    """It comes before the argument, and is not shown to the engine's library."""
    adapter = adapter_for(url)

    assert isinstance(adapter, (RedisAdapter, NatsAdapter))
    assert adapter.namespace == "chat"
    assert type(adapter)(url, namespace="other").namespace == "chat"


@pytest.mark.parametrize("query", ["namespace=", "namespace=a&namespace=b", "namespace=a%20b"])
@pytest.mark.parametrize("url", ["redis://db", "nats://db"])
def test_a_namespace_that_is_none(url: str, query: str):
    """It is refused where it is given."""
    with pytest.raises(ConfigurationError, match="namespace"):
        adapter_for(f"{url}?{query}")


def test_tls_files_of_nats(tmp_path: Path):
    """What is not there, or is not whole, is refused before anything is connected."""
    for query in (f"tls_ca={tmp_path}/none.pem", f"tls_key={tmp_path}/none.key"):
        with pytest.raises(ConfigurationError, match="tls_"):
            adapter_for(f"tls://db?{query}")


@pytest.mark.parametrize("url", ["redis://db", "nats://db"])
def test_what_is_made_before_a_fork_has_another_name_after_it(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    """A server may load the application first and fork its workers then."""
    adapter = adapter_for(url)
    name = adapter.node_name
    assert adapter.node_name == name

    monkeypatch.setattr(os, "getpid", lambda: -1)

    assert adapter.node_name != name
    assert adapter_for(url, "web-1").node_name == "web-1"
