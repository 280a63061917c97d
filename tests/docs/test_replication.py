"""docs/replication.md: its scenario runs, and the same seed is the same run."""

from __future__ import annotations

import re
from pathlib import Path

import roost
from roost.testing.simulation import Simulation
from tests.docs.guide import Guide
from tests.mutations.mutants import ROOT, load_mutants

RULES = ROOT / "docs" / "replication.md"
CITED = re.compile(r"docs/(\w+\.md),\s+rules? (\d(?:\.\d)?)(?: and (\d(?:\.\d)?))?")


def numbers() -> set[str]:
    """The numbers of the rules, and of their sections."""
    return set(
        re.findall(r"^(?:### (?=\d\. )|- \*\*)(\d(?:\.\d+)?)", RULES.read_text(), re.MULTILINE)
    )


def test_the_scenario_runs():
    """A partition hides alice on the other side, and its end shows her again."""
    sim = Guide("replication.md").run().sim

    assert sim.b.keys("room:1") == sim.c.keys("room:1") == ["alice"]


def test_a_seed_is_a_run():
    """Two runs of one seed send the same messages; another seed does not."""

    def sent(seed: int) -> tuple[dict[str, int], int, float]:
        sim = Simulation(seed=seed, nodes="abc")
        sim.a.track("room:1", "alice")
        took = sim.run_until_quiet()
        sim.partition("a", "bc")
        sim.advance(40.123)
        return dict(sim.sent), sim.sent_size, took

    assert sent(7) == sent(7)
    assert len({str(sent(seed)) for seed in range(20)}) > 1


def test_the_rules_that_the_code_cites_are_there():
    """A module that names a rule names one of the guide, and several do."""
    cited = [
        (guide, number)
        for path in Path(roost.__file__).parent.rglob("*.py")
        for guide, *found in CITED.findall(path.read_text())
        for number in filter(None, found)
    ]

    assert len(cited) >= 8
    assert {guide for guide, _ in cited} == {"replication.md"}
    assert {number for _, number in cited} <= numbers()


def test_planted_bugs_name_a_section_of_the_rules():
    """The section of a planted bug is one of the guide."""
    assert {str(each.section) for each in load_mutants() if each.section} <= numbers()


def test_rules_are_numbered_in_order():
    """Each section counts its rules from 1."""
    found = re.findall(r"^- \*\*(\d)\.(\d+)\*\*", RULES.read_text(), re.MULTILINE)

    for section in sorted({section for section, _ in found}):
        of_section = [int(number) for each, number in found if each == section]
        assert of_section == list(range(1, len(of_section) + 1)), section
