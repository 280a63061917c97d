"""What every test may use."""

import os
import subprocess
from pathlib import Path

import pytest

from roost import logs
from tests import servers, skips

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(skips)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome: `CHROMIUM=`, which `make test` sets, or the first found."""
    if path := os.environ.get("CHROMIUM"):
        return path
    found = subprocess.run(
        [ROOT / "scripts" / "find-chromium"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        skips.unavailable("chromium", found.stderr.strip())
    return found.stdout.strip()


@pytest.fixture(autouse=True)
def unbounded_logs() -> None:
    """What other tests logged does not keep this one's lines out."""
    logs.bounds.forget()


@pytest.fixture(params=[servers.PLAIN, servers.FAST], ids=["plain", "fast"])
def each_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve on uvicorn's own WebSockets, and on the fast path."""
    monkeypatch.setattr(servers, "WEBSOCKETS", request.param)
