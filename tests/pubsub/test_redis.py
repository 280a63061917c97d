"""The adapter for Redis, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.pubsub.redis import RedisAdapter
from roost.testing.adapters import AdapterConformance, LinkConformance, OutageConformance
from tests.engines import RedisServer, free_port


class RedisEngine(RedisServer):
    """A server with a password, and adapters for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--requirepass", "secret")

    def adapter(self, node_name: str | None = None, namespace: str = "suite") -> RedisAdapter:
        url = f"redis://:secret@127.0.0.1:{self.port}"
        return RedisAdapter(url, node_name=node_name, namespace=namespace)

    def missing(self) -> RedisAdapter:
        return RedisAdapter(f"redis://:secret@127.0.0.1:{free_port()}")

    def refused(self) -> RedisAdapter:
        return RedisAdapter(f"redis://:wrong@127.0.0.1:{self.port}")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisEngine]:
    with RedisEngine(tmp_path_factory.mktemp("redis")) as engine:
        yield engine


class TestConformance(AdapterConformance, LinkConformance, OutageConformance):
    """Redis carries a cluster."""
