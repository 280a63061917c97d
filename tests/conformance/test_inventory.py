"""The inventory of Phoenix's own tests is kept: a test for each line, or a reason."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
INVENTORY = tomllib.loads((Path(__file__).parent / "inventory.toml").read_text())
LINES = {f"{group}-{n + 1}" for group, count in INVENTORY["groups"].items() for n in range(count)}


def conforming() -> Counter[str]:
    """How many tests name each line, as ``@pytest.mark.conforms("CT-8", …)``."""
    named: Counter[str] = Counter()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in getattr(node, "decorator_list", []):
                if isinstance(decorator, ast.Call) and "mark.conforms" in ast.unparse(
                    decorator.func
                ):
                    named.update(ast.literal_eval(argument) for argument in decorator.args)
    return named


def test_each_line_is_named_by_exactly_one_test():
    """No line is named twice, and none is missing that is not exempt."""
    named = conforming()

    assert {line: count for line, count in named.items() if count > 1} == {}
    assert LINES - named.keys() == INVENTORY["exempt"].keys()


def test_only_lines_of_the_inventory_are_named():
    """A test names no line that does not exist."""
    assert conforming().keys() <= LINES


def test_exemptions_have_reasons():
    """Each exemption is of a line of the inventory, and says why in a sentence."""
    for line, reason in INVENTORY["exempt"].items():
        assert line in LINES
        assert reason.endswith("."), line
