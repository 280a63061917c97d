"""What is planted is code, and a refactoring that moves it about does not matter.

That each planted bug is caught is shown by ``make mutate``, which also fails for one that is stale.
"""

from __future__ import annotations

import ast
import shutil
import warnings
from pathlib import Path

import pytest

from tests.mutations import mutants
from tests.mutations.mutants import ROOT, Mutant, Stale, load_mutants

SOURCE = ROOT / "src"


class StaleMutants(UserWarning):
    """Some planted bugs have no place any more."""


@pytest.mark.filterwarnings("default::tests.mutations.test_mutants.StaleMutants")
def test_every_mutant_has_its_place():
    """All can be read; of those that the code has left behind there is a warning."""
    stale = []
    for mutant in load_mutants():
        try:
            mutant.find(SOURCE)
            mutant.catcher()
        except Stale as error:
            stale.append(str(error))

    if stale:
        warnings.warn(StaleMutants("make mutate will fail:\n" + "\n".join(stale)), stacklevel=1)


def test_the_rules_are_covered():
    """There are mutants for every section of the rules, no less than 40 in all."""
    found = load_mutants()

    assert len(found) >= 40
    assert {mutant.section for mutant in found} >= {1, 2, 3, 4, 5}


def one(new: str, caught_by: str | None = None) -> Mutant:
    rule = "One is 1."
    return Mutant(name="two", rule=rule, file="one.py", old="a = 1", new=new, caught_by=caught_by)


@pytest.mark.parametrize("text", ["", "a = 1\na = 1\n"])
def test_a_mutant_that_does_not_apply_says_so(text):
    """A mutant is planted in one place, or not at all."""
    with pytest.raises(Stale, match=r"two: \d places in one\.py"):
        one("a = 2").changed(text)


@pytest.mark.parametrize(("new", "complaint"), [("a = (", "no code"), ("a = (1)", "the same")])
def test_a_mutant_that_is_none_says_so(new, complaint):
    """It has to be code, and other code."""
    with pytest.raises(Stale, match=complaint):
        one(new).changed("a = 1\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the code, to be changed."""
    return Path(shutil.copytree(SOURCE, tmp_path / "src"))


def is_stale(mutant: Mutant) -> bool:
    """Whether it is found no more in the source as it is, which another test says."""
    try:
        mutant.find(SOURCE)
    except Stale:
        return True
    return False


def test_a_module_may_be_written_anew(source: Path):
    """Without its comments, every statement in one line, nearly all are found."""
    for path in source.rglob("*.py"):
        path.write_text(ast.unparse(ast.parse(path.read_text("utf-8"))), "utf-8")
    some_mutants, stale = [each for each in load_mutants() if not is_stale(each)][::3], []
    for mutant in some_mutants:
        try:
            _, changed = mutant.find(source)
        except Stale as error:
            stale.append(str(error))
        else:
            _, expected = mutant.find(SOURCE)
            assert ast.dump(ast.parse(changed)) == ast.dump(ast.parse(expected)), mutant.name

    assert len(stale) <= len(some_mutants) / 20, "\n".join(stale)


def test_a_module_may_move(tmp_path: Path):
    """One that has another name, or another folder, is found by what is in it."""
    code = "removed = [each.removed for each in changes if each.removed]"
    moved = tmp_path / "roost" / "tracker" / "own.py"
    moved.parent.mkdir(parents=True)
    moved.write_text(f"changes = []\n{code}\n", "utf-8")
    mutant = Mutant(
        name="moved", rule="It has all.", file="crdt/slice.py", old=code, new="removed = []"
    )

    path, changed = mutant.find(tmp_path)

    assert path == moved
    assert changed == "changes = []\nremoved = []\n"


def test_a_test_may_move(monkeypatch: pytest.MonkeyPatch):
    """It is found by its name; one that there is not is stale."""
    places = {"test_a": ["crdt/test_b.py"], "test_c": ["crdt/test_d.py", "wire/test_d.py"]}
    monkeypatch.setattr(mutants, "_places_of_tests", lambda: places)

    def catcher(caught_by: str) -> str | None:
        return one("a = 2", caught_by).catcher()

    assert catcher("crdt/test_b.py::test_a") == "crdt/test_b.py::test_a"
    assert catcher("wire/test_e.py::test_a[1]") == "crdt/test_b.py::test_a[1]"
    assert catcher("wire/test_d.py::test_c") == "wire/test_d.py::test_c"
    for unknown in ("wire/test_d.py::test_x", "tracker/test_d.py::test_c"):
        with pytest.raises(Stale, match="two: there is no test"):
            catcher(unknown)
