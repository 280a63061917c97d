"""Plant each bug and show which test notices: ``python -m tests.mutations [NAMES]``."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

import msgspec

from tests.mutations.mutants import ROOT, Mutant, Stale, load_mutants

REPLICATION: Final = ("simulation", "tracker", "crdt")
TESTS: Final = {  # which tests are to notice, by the folder of the code
    "crdt": REPLICATION,
    "tracker": REPLICATION,
    "wire": ("wire", "channels"),
    "pubsub": ("pubsub/test_pubsub.py", "pubsub/test_replicator.py", "presence"),
    "channels": ("channels", "testing", "presence"),
    "presence": ("presence", "channels"),
    "asgi": ("asgi", "integration"),
    "tokens": ("tokens",),
}
OPTIONS: Final = (
    "-x",
    "-q",
    "--tb=no",
    "--keep-duplicates",  # or the test that is named first is run in its place among all
    *("-p", "no:cacheprovider"),
    *("-p", "tests.mutations.quick"),
)
TIMEOUT: Final = 600.0  # seconds for one bug; a test that never ends notices as well
FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", re.MULTILINE)


class Verdict(msgspec.Struct, frozen=True):
    """Which test noticed, None if none did, and after how many seconds."""

    caught_by: str | None
    seconds: float


def judge(
    tests: Sequence[str],
    plant: Callable[[Path], None] = lambda source: None,
    first: str | None = None,
) -> Verdict:
    """Run tests on a copy of the code until one fails.

    Args:
        tests: Files and folders below ``tests``.
        plant: Changes the copy of ``src``.
        first: Id of the test to begin with.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        plant(source)
        ids = [f"tests/{test}" for test in (first, *tests) if test is not None]
        began_at = time.monotonic()
        try:
            finished = subprocess.run(
                [sys.executable, "-m", "pytest", *OPTIONS, *ids],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)]),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "HYPOTHESIS_STORAGE_DIRECTORY": folder,
                },
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict("no end", TIMEOUT)
        seconds = time.monotonic() - began_at
        if finished.returncode == 0:
            return Verdict(None, seconds)
        failed = FAILED.search(finished.stdout)
        if failed is None:
            raise RuntimeError(f"pytest said neither yes nor no:\n{finished.stdout[-2_000:]}")
        return Verdict(failed[1], seconds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAMES", help="bugs to plant (all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    arguments = parser.parse_args(argv)
    mutants = load_mutants()
    if unknown := set(arguments.names) - {mutant.name for mutant in mutants}:
        parser.error(f"no such bug: {', '.join(sorted(unknown))}")
    if arguments.names:
        mutants = [mutant for mutant in mutants if mutant.name in arguments.names]
    plan: list[tuple[Mutant, str | None]] = []
    stale: list[Stale] = []
    for mutant in mutants:
        try:
            mutant.find(ROOT / "src")
            plan.append((mutant, mutant.catcher()))
        except Stale as error:
            stale.append(error)
    for tests in {tests_of(mutant) for mutant, _ in plan}:
        if (healthy := judge(tests)).caught_by is not None:
            say(f"{healthy.caught_by} fails on the code as it is")
            return 1
    width = max(len(mutant.name) for mutant in mutants)
    survivors: list[Mutant] = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = {
            pool.submit(judge, tests_of(mutant), mutant.plant, first): mutant
            for mutant, first in plan
        }
        for future in as_completed(running):
            mutant, verdict = running[future], future.result()
            if verdict.caught_by is None:
                survivors.append(mutant)
            caught_by = verdict.caught_by or f"SURVIVED: {mutant.rule}"
            say(f"{mutant.name:{width}} {verdict.seconds:6.1f} s  {caught_by}")
    for each in stale:
        say(f"STALE: {each}")
    say(f"{len(plan)} planted, {len(survivors)} survived, {len(stale)} stale")
    return 1 if survivors or stale else 0


def tests_of(mutant: Mutant) -> Sequence[str]:
    """Where the tests are that are to notice a mutant."""
    folder = mutant.file.partition("/")[0]
    return TESTS.get(folder, (folder,))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
