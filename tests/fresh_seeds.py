"""Seeds that nobody has played before."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["first_of_commit", "first_of_now", "seeds_of_commit"]

ROOT: Final = Path(__file__).parents[1]
COMMIT_DIGITS: Final = 12  # hexadecimal, of a commit's hash: 48 bits


def first_of_commit(root: Path = ROOT) -> int:
    """The first seed of the commit that is checked out, so that each is tried with others.

    It is the same each time; without a commit it is a random one.
    """
    try:
        finished = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(finished.stdout[:COMMIT_DIGITS], 16)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return secrets.randbits(4 * COMMIT_DIGITS)


def seeds_of_commit(count: int) -> range:
    """So many seeds of the commit that is checked out, printed for whoever plays them again."""
    first = first_of_commit()
    sys.stdout.write(f"{count} seeds from {first}\n")
    return range(first, first + count)


def first_of_now() -> int:
    """A seed to begin with now: the time in microseconds, far less than a seed takes to play.

    So whoever begins later begins beyond all that were played before.
    """
    return time.time_ns() // 1_000
