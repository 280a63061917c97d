"""The suite of the JavaScript client, run by Node: all of it, or on a client with a planted bug.

``mutants.toml`` lists the bugs, a table each::

    [stale_join_ref]
    rule = "What is for an earlier join is dropped."
    file = "channel.js"
    old = "joinRef === this.joinRef()) return true"
    new = "joinRef) return true"
    caught_by = "channel"

``caught_by`` is the test file that has to notice.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["CLIENT", "FILES", "HERE", "Mutant", "Result", "load_mutants", "run"]

HERE: Final = Path(__file__).parent
CLIENT: Final = HERE.parents[1] / "clients" / "js"
FILES: Final = sorted(path.name.removesuffix(".test.js") for path in HERE.glob("*.test.js"))
TIMEOUT: Final = 60.0  # seconds for one file; a client that never ends is noticed, too

_FAILED: Final = re.compile(r"^\s*not ok \d+ - (.*)$", re.MULTILINE)


class Result(msgspec.Struct, frozen=True):
    """What a test file said: the names of the tests that failed, and all of its output."""

    failed: list[str]
    output: str


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One planted bug; see the top of this module."""

    name: str
    rule: str
    file: str
    old: str
    new: str
    caught_by: str

    def plant(self, folder: Path) -> Path:
        """Copy the client into a folder with the bug in it.

        Raises:
            ValueError: The client no longer has what is to be changed, or has it twice.
        """
        client = folder / "client"
        shutil.copytree(CLIENT, client)
        path = client / self.file
        code = path.read_text(encoding="utf-8")
        if (count := code.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {count} places in {self.file} read {self.old!r}")
        path.write_text(code.replace(self.old, self.new), encoding="utf-8")
        return client


def load_mutants() -> list[Mutant]:
    tables = tomllib.loads((HERE / "mutants.toml").read_text(encoding="utf-8"))
    return [Mutant(name, **table) for name, table in tables.items()]


def run(node: str, file: str, client: Path = CLIENT) -> Result:
    """Run one test file on a client."""
    try:
        done = subprocess.run(
            [node, "--test-reporter=tap", str(HERE / f"{file}.test.js")],
            env={**os.environ, "CLIENT": str(client)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(["no end"], "")
    failed = _FAILED.findall(done.stdout)
    if done.returncode and not failed:
        failed = ["the file does not even run"]
    return Result(failed, done.stdout + done.stderr)
