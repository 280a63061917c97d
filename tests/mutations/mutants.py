"""Planted bugs: each breaks one rule of REPLICATION.md, and some test has to notice.

They are listed in ``mutants.toml``, a table each::

    [gap_is_skipped]
    section = 1
    rule = "A range that begins above what is held is a gap."
    file = "crdt/held.py"
    old = 'if change.end <= self.seq or not self.reaches(change):'
    new = 'if change.end <= self.seq:'
    caught_by = "crdt/test_slice.py::test_deliveries_never_leave_the_chain"

``rule`` says what is true of the code as it is; ``caught_by`` is tried first, and may be left out.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["ROOT", "DoesNotApply", "Mutant", "load_mutants"]

ROOT: Final = Path(__file__).parents[2]
MUTANTS: Final = Path(__file__).with_name("mutants.toml")


class DoesNotApply(Exception):
    """The code is no longer what a mutant changes: say in ``mutants.toml`` what it is now."""


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One planted bug.

    Args:
        name: Says what goes wrong.
        section: Of REPLICATION.md.
        rule: The rule that it breaks.
        file: Path below ``src/roost``.
        old: Text that is there exactly once.
        new: What takes its place.
        caught_by: Id below ``tests`` of a test that is known to notice.
    """

    name: str
    section: int
    rule: str
    file: str
    old: str
    new: str
    caught_by: str | None = None

    def changed(self, text: str) -> str:
        """``text`` with the bug in it.

        Raises:
            DoesNotApply: What is to be changed is not there, or not only once.
        """
        count = text.count(self.old)
        if count != 1:
            raise DoesNotApply(f"{self.name}: {count} places in {self.file} read {self.old!r}")
        return text.replace(self.old, self.new)

    def plant(self, source: Path) -> None:
        """Put the bug into a copy of ``src``."""
        path = source / "roost" / self.file
        path.write_text(self.changed(path.read_text(encoding="utf-8")), encoding="utf-8")


def load_mutants() -> list[Mutant]:
    """All planted bugs, in the order of the rules."""
    tables = tomllib.loads(MUTANTS.read_text(encoding="utf-8"))
    return [msgspec.convert({"name": name, **table}, Mutant) for name, table in tables.items()]
