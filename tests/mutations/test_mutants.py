"""The planted bugs fit the code as it is; ``make mutate`` shows that each is caught."""

import pytest

from tests.mutations.mutants import ROOT, DoesNotApply, Mutant, load_mutants

MUTANTS = load_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_applies(mutant):
    """What a mutant changes is there once, and what it makes of it can be compiled."""
    path = ROOT / "src" / "roost" / mutant.file

    compile(mutant.changed(path.read_text(encoding="utf-8")), mutant.file, "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_test_that_catches_a_mutant_exists(mutant):
    """A test that was renamed is renamed here as well."""
    if mutant.caught_by is None:
        return
    path, _, name = mutant.caught_by.partition("::")

    assert f"def {name.partition('[')[0]}(" in (ROOT / "tests" / path).read_text(encoding="utf-8")


def test_the_rules_are_covered():
    """There are mutants for every section of the rules, no less than 40 in all."""
    assert len(MUTANTS) >= 40
    assert {mutant.section for mutant in MUTANTS} >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("text", ["", "a = 1\na = 1\n"])
def test_a_mutant_that_does_not_apply_says_so(text):
    """A mutant is planted in one place, or not at all."""
    mutant = Mutant(name="two", section=1, rule="One is 1.", file="one.py", old="a = 1", new="a")

    with pytest.raises(DoesNotApply, match=r"two: \d places in one\.py"):
        mutant.changed(text)
