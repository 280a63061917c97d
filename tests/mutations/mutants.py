"""Planted bugs: each breaks one rule, and some test has to notice.

They are listed in the ``toml`` files beside this one, a table each: ``mutants`` has those that
break a rule of replication, ``presence``, ``connections`` and ``tokens`` those of what they name::

    [gap_is_skipped]
    section = 1
    rule = "A range that begins above what is held is a gap."
    file = "crdt/held.py"
    old = 'if change.end <= self.seq or not self.reaches(change):'
    new = 'if change.end <= self.seq:'
    caught_by = "crdt/test_slice.py::test_deliveries_never_leave_the_chain"

``rule`` says what is true of the code as it is; ``caught_by`` is tried first, and may be left out.

A refactoring that keeps the rule need not know of its mutant: the snippet is found in other forms
and places, too (``snippets``), in another module if the module was renamed or the code moved to one
of the same name, and a test that moved is found by its name. A mutant that is found nowhere is
*stale*: ``make test`` warns of it, ``make mutate`` fails.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from tests.mutations import snippets

__all__ = ["ROOT", "Mutant", "Stale", "load_mutants"]

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
MIN_WORDS: Final = 6  # of a snippet that is looked for in other modules than its own


class Stale(Exception):
    """The code is no longer what a mutant changes: say in its table what it is now."""


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One planted bug.

    Args:
        name: Says what goes wrong.
        section: Of the rules in docs/replication.md if the rule is one of replication, else 0.
        rule: The rule that it breaks.
        file: Path below ``src/roost``.
        where: Qualified name of the function or class that the text is in; needed if it is in
            several.
        old: Text that is there exactly once.
        new: What takes its place.
        caught_by: Id below ``tests`` of a test that is known to notice.
    """

    name: str
    section: int = 0
    rule: str
    file: str
    where: str | None = None
    old: str
    new: str
    caught_by: str | None = None

    def changed(self, text: str) -> str:
        """``text`` with the bug in it.

        Raises:
            Stale: What is to be changed is not there, or not only once; or the change is none.
        """
        try:
            changed = snippets.replace(text, self.old, self.new, where=self.where)
        except snippets.NotOnce as error:
            place = self.file if self.where is None else f"{self.where} of {self.file}"
            raise Stale(f"{self.name}: {error.count} places in {place} read {self.old!r}") from None
        try:
            is_changed = _normal(changed) != _normal(text)
        except SyntaxError as error:
            raise Stale(f"{self.name}: {self.file} is no code with it: {error}") from error
        if not is_changed:
            raise Stale(f"{self.name}: {self.file} is the same with it")
        return changed

    def find(self, source: Path) -> tuple[Path, str]:
        """The module of ``src`` that is to be changed, and what it is with the bug.

        Raises:
            Stale: There is none.
        """
        path = source / "roost" / self.file
        reason = Stale(f"{self.name}: there is no {self.file}")
        if path.exists():
            try:
                return path, self.changed(path.read_text(encoding="utf-8"))
            except Stale as error:
                reason = error
        found = []
        for other in self._others(path, source):
            try:
                found.append((other, self.changed(other.read_text(encoding="utf-8"))))
            except Stale:
                continue
        if len(found) != 1:
            raise reason
        return found[0]

    def _others(self, path: Path, source: Path) -> Iterator[Path]:
        """Where the code may be now."""
        is_telling = self.where is not None or len(re.findall(r"\w+", self.old)) >= MIN_WORDS
        for other in sorted((source / "roost").rglob("*.py")):
            if other != path and (other.name == path.name or (is_telling and not path.exists())):
                yield other

    def plant(self, source: Path) -> None:
        """Put the bug into a copy of ``src``.

        Raises:
            Stale: There is no place for it.
        """
        path, text = self.find(source)
        path.write_text(text, encoding="utf-8")

    def catcher(self) -> str | None:
        """The test to begin with, where it is now; None if it is not said which.

        Raises:
            Stale: There is no such test any more.
        """
        if self.caught_by is None:
            return None
        path, _, name = self.caught_by.partition("::")
        function = name.partition("[")[0].rpartition("::")[2]
        places = _places_of_tests().get(function, ())
        if path in places:
            return self.caught_by
        if len(places) != 1:
            raise Stale(f"{self.name}: there is no test {self.caught_by}")
        return f"{places[0]}::{name}"


@lru_cache(maxsize=256)
def _normal(code: str) -> str:
    return ast.dump(ast.parse(code))


@lru_cache
def _places_of_tests() -> Mapping[str, Sequence[str]]:
    """Name of a test → the files that have one of that name."""
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        file = path.relative_to(ROOT / "tests").as_posix()
        for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8")):
            if file not in places.setdefault(name, []):
                places[name].append(file)
    return places


def load_mutants() -> list[Mutant]:
    """All planted bugs, in the order of the rules."""
    mutants: dict[str, Mutant] = {}
    for path in sorted(HERE.glob("*.toml")):
        for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name in mutants:
                raise ValueError(f"two planted bugs are called {name}")
            mutants[name] = msgspec.convert({"name": name, **table}, Mutant)
    return list(mutants.values())
