"""An adapter is chosen by its URL."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from types import ModuleType

import pytest

from roost.exceptions import ConfigurationError
from roost.pubsub.auto import AutoAdapter
from roost.pubsub.local import LocalAdapter
from roost.pubsub.urls import adapter_for
from roost.pubsub.zenoh import ZenohAdapter


class OtherAdapter(LocalAdapter):
    """What another package offers."""

    def __init__(self, url: str, *, node_name: str | None = None) -> None:
        super().__init__(node_name)
        self.url = url


@pytest.mark.parametrize("url", [None, "", "auto"])
def test_auto_is_the_default(url: str | None):
    """Who says nothing gets what needs no configuration."""
    assert isinstance(adapter_for(url), AutoAdapter)


@pytest.mark.parametrize("url", ["local", "local://"])
def test_local_is_a_single_process(url: str):
    """It can be asked for, where ``auto`` would look for siblings."""
    adapter = adapter_for(url, "a")

    assert isinstance(adapter, LocalAdapter)
    assert adapter.node_name == "a"


@pytest.mark.parametrize("url", ["zenoh://", "zenoh://one:7447,two:7447", "ZENOH://one"])
def test_zenoh_by_its_scheme(url: str):
    """The whole URL goes to the adapter."""
    adapter = adapter_for(url, "a")

    assert isinstance(adapter, ZenohAdapter)
    assert adapter.node_name == "a"


@pytest.mark.parametrize(
    ("url", "module", "name"),
    [
        ("redis://db:6379", "roost.pubsub.redis", "RedisAdapter"),
        ("rediss://db:6379", "roost.pubsub.redis", "RedisAdapter"),
        ("valkey://db:6379", "roost.pubsub.redis", "RedisAdapter"),
        ("valkeys://db:6379", "roost.pubsub.redis", "RedisAdapter"),
        ("nats://one:4222,nats://two:4222", "roost.pubsub.nats", "NatsAdapter"),
        ("tls://one:4222", "roost.pubsub.nats", "NatsAdapter"),
    ],
)
def test_other_engines_by_their_schemes(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, name: str
):
    """The adapter's module is imported when it is asked for."""
    offered = ModuleType(module)
    setattr(offered, name, OtherAdapter)
    monkeypatch.setitem(sys.modules, module, offered)

    adapter = adapter_for(url, "a")

    assert isinstance(adapter, OtherAdapter)
    assert (adapter.url, adapter.node_name) == (url, "a")


def test_a_package_may_offer_an_adapter(monkeypatch: pytest.MonkeyPatch):
    """An entry point of the group ``roost.adapters`` is named by its scheme."""
    point = importlib.metadata.EntryPoint("pigeon", f"{__name__}:OtherAdapter", "roost.adapters")
    points = importlib.metadata.EntryPoints([point])
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda **params: points.select(**params)
    )

    adapter = adapter_for("pigeon://loft", "a")

    assert isinstance(adapter, OtherAdapter)
    assert (adapter.url, adapter.node_name) == ("pigeon://loft", "a")
    with pytest.raises(ConfigurationError, match="nats, pigeon, redis, rediss"):
        adapter_for("carrot://")


def test_an_unknown_scheme_names_the_known():
    """The error says what there is."""
    with pytest.raises(
        ConfigurationError, match=r"'kafka' names no adapter: .*auto, local.*zenohs"
    ):
        adapter_for("kafka://alice:s3cret@db")


@pytest.mark.parametrize("url", ["kafka://alice:s3cret@db", "s3cret:x", "alice:s3cret@db:1"])
def test_no_error_shows_a_password(url: str):
    """Not even if it was put in a wrong place."""
    with pytest.raises(ConfigurationError) as caught:
        adapter_for(url)

    assert "s3cret" not in str(caught.value)


def test_no_engine_is_imported_before_it_is_needed():
    """The choice costs no import of zenoh itself, nor of other engines."""
    code = (
        "import sys; from roost.pubsub.urls import adapter_for; adapter_for('auto')\n"
        "adapter_for('zenoh://'); print({'zenoh', 'redis', 'nats'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
