"""A test that takes longer than its timeout fails, also if asyncio catches the alarm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HANGS = """
import asyncio, time
import pytest

async def scene():
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    asyncio.get_running_loop().call_soon(time.sleep, {seconds})
    await asyncio.sleep(0)

@pytest.mark.timeout(0.2)
def test_it():
    asyncio.run(scene())
"""


@pytest.mark.parametrize(("seconds", "outcome"), [("1", "1 failed"), ("0", "1 passed")])
def test_a_callback_that_hangs_fails_its_test(tmp_path: Path, seconds: str, outcome: str):
    """Only a test that ends in time passes."""
    (tmp_path / "test_it.py").write_text(HANGS.replace("{seconds}", seconds), "utf-8")

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.timeouts", "-p", "no:cacheprovider", "-q"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert outcome in ran.stdout
