"""Seeds that no run had before: another commit plays other histories, and each can be replayed."""

from __future__ import annotations

import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

__all__ = ["fresh_seeds"]

FIRST_FRESH = 1_000_000  # the lower ones are those of every run


def fresh_seeds(count: int) -> range:
    """So many seeds, drawn from the commit that is checked out, and printed."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        commit = result.stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # an archive has no commit
        commit = ""
    drawn = int.from_bytes(blake2b(commit.encode(), digest_size=5).digest(), "big")
    first = FIRST_FRESH + drawn
    sys.stdout.write(f"fresh seeds of {commit or 'no commit'}: {count} from {first} on\n")
    return range(first, first + count)
