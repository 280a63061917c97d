"""What the tests of the guides share: a folder as their reader has it, and a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.guide import ROOT
from tests.e2e.conftest import browser, tabs

__all__ = ["browser", "folder", "tabs"]

PHOENIX = ROOT / "node_modules" / "phoenix" / "priv" / "static" / "phoenix.mjs"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder, in which the test runs: with `static`, and the client from npm in it."""
    static = tmp_path / "static"
    static.mkdir()
    shutil.copy(PHOENIX, static)
    monkeypatch.chdir(tmp_path)
    return tmp_path
