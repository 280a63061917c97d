"""docs/coverage.md: what it refers to exists, and what has no test is marked as not there yet."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from importlib.metadata import requires

import pytest

from tests.docs.guide import DOCS, ROOT

TEXT = (DOCS / "coverage.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| it says"))
]
TEST_ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def named_in(path: str) -> frozenset[str]:
    """The names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0] or row[1])
def test_each_row_has_a_test_or_is_not_there_yet(row: list[str]):
    """The test that a row names exists; a row without one is marked as not there yet."""
    _, here, tested_by = row
    assert here
    if not tested_by:
        assert here.startswith("**not yet**")
        return
    match = TEST_ID.fullmatch(tested_by)
    assert match is not None, tested_by
    path, name = match.groups()
    assert name in named_in(path), tested_by


def test_all_five_texts_are_there():
    """Each has a table, and no row is there twice."""
    sections = TEXT.split("\n## ")[1:]
    assert len(sections) == 5
    for section in sections:
        claims = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
        named = [claim for claim in claims if claim.strip()]
        assert len(named) > 5
        assert len(set(named)) == len(named)


def test_nothing_else_has_to_run():
    """roost needs one package, which needs no other, and nothing beside its own process."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (dependency,) = project["dependencies"]
    assert dependency.startswith("msgspec")
    assert all("extra ==" in each for each in requires("msgspec") or [])
