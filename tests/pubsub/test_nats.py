"""The adapter for NATS, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from roost.pubsub.nats import NatsAdapter
from roost.testing.adapters import AdapterConformance, LinkConformance, OutageConformance
from tests.engines import NatsServer, free_port


class NatsEngine(NatsServer):
    """A server with a password, and adapters for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, "max_payload: 2MB", "authorization: {user: alice, password: secret}"
        )

    def adapter(self, node_name: str | None = None, namespace: str = "suite") -> NatsAdapter:
        url = f"nats://alice:secret@127.0.0.1:{self.port}"
        return NatsAdapter(url, node_name=node_name, namespace=namespace)

    def missing(self) -> NatsAdapter:
        return NatsAdapter(f"nats://alice:secret@127.0.0.1:{free_port()}")

    def refused(self) -> NatsAdapter:
        return NatsAdapter(f"nats://alice:wrong@127.0.0.1:{self.port}")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsEngine]:
    with NatsEngine(tmp_path_factory.mktemp("nats")) as engine:
        yield engine


class TestConformance(AdapterConformance, LinkConformance, OutageConformance):
    """NATS carries a cluster."""
