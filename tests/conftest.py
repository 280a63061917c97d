"""What every test may use."""

import gc
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from roost import logs
from tests import servers, skips, timeouts

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(skips)
    config.pluginmanager.register(timeouts)


def pytest_collection_finish() -> None:
    """Keep thousands of tests, which stay till the end, out of every later collection.

    Tests that look for what was left behind collect often.
    """
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session")
def node() -> str:
    """The path of a Node.js, which runs the JavaScript client without a browser."""
    path = shutil.which("node")
    if path is None:
        skips.unavailable("node", "install Node.js 18 or newer")
    return path


@pytest.fixture(autouse=True)
def unbounded_logs() -> None:
    """What other tests logged does not keep this one's lines out."""
    logs.bounds.forget()


@pytest.fixture(params=[servers.PLAIN, servers.FAST], ids=["plain", "fast"])
def each_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve on uvicorn's own WebSockets, and on the fast path behind the front door."""
    monkeypatch.setattr(servers, "WEBSOCKETS", request.param)
    if request.param == servers.FAST:
        monkeypatch.setattr(servers, "HTTP", servers.DOOR)
