"""The JavaScript client keeps its rules, and its suite notices where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.javascript.suite import FILES, Mutant, load_mutants, run


@pytest.mark.parametrize("file", FILES)
def test_the_suite_passes(file: str, node: str):
    """Every test of the client in JavaScript passes."""
    result = run(node, file)

    assert not result.failed, result.output


@pytest.mark.parametrize("mutant", load_mutants(), ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_caught(mutant: Mutant, node: str, tmp_path: Path):
    """A client that breaks a rule fails the file of that rule."""
    result = run(node, mutant.caught_by, mutant.plant(tmp_path))

    assert result.failed, f"nothing notices that this no longer holds: {mutant.rule}"
