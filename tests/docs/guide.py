"""Guides as programs: the code of a page in `docs`, in the order in which a reader types it."""

from __future__ import annotations

import re
import sqlite3
import weakref
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["DOCS", "ROOT", "Block", "Guide", "anchors"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)$")


class Block(NamedTuple):
    """One block of code.

    Args:
        language: As the page names it, for example ``python``.
        code: Its lines.
        line: The number of its first line in the page.
        section: The heading above it.
    """

    language: str
    code: str
    line: int
    section: str


class Guide:
    """One page of the documentation.

    Args:
        name: Its file in `docs`, for example ``presence.md``.
    """

    def __init__(self, name: str) -> None:
        self.path = DOCS / name
        self.text = self.path.read_text()
        self.blocks = list(_blocks(self.text))
        self.sections = [block.section for block in self.blocks]

    def run(self, until: str | None = None) -> Any:
        """Run the Python blocks in one module, and return the module.

        Args:
            until: The last section to run; by default all of them.
        """
        module = ModuleType(self.path.stem.replace("-", "_"))
        for block in self._until(until):
            if block.language == "python":
                # Empty lines in front, so that a traceback names the line of the page.
                code = "\n" * (block.line - 1) + block.code
                exec(compile(code, self.path, "exec"), vars(module))
        vars(module)["this_module"] = module  # it lives as long as its functions
        for value in vars(module).values():
            if isinstance(value, sqlite3.Connection):  # nobody closes it in a program
                weakref.finalize(module, value.close)
        return module

    def code(self, language: str, *sections: str) -> str:
        """The code of sections in one language, as one program."""
        for section in sections:
            assert section in self.sections, f"{self.path.name} has no code in {section!r}"
        blocks = [
            block.code
            for block in self.blocks
            if block.language == language and block.section in sections
        ]
        assert blocks, f"{self.path.name} has no {language} in {sections}"
        return "\n".join(blocks)

    def _until(self, section: str | None) -> Iterator[Block]:
        if section is None:
            return iter(self.blocks)
        assert section in self.sections, f"{self.path.name} has no code in {section!r}"
        last = max(number for number, each in enumerate(self.sections) if each == section)
        return iter(self.blocks[: last + 1])


def anchors(text: str) -> set[str]:
    """What a link to a heading of a page may name after the ``#``, as GitHub makes it."""
    headings = [
        match[1] for line in _prose(text) if (match := re.match(r"#{1,6} (.*)", line)) is not None
    ]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _blocks(text: str) -> Iterator[Block]:
    section, lines = "", iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if line.startswith("#"):
            section = line.lstrip("#").strip()
        elif match := _FENCE.match(line):
            code = takewhile(lambda each: each[1] != "```", lines)
            yield Block(match[1], "".join(f"{each}\n" for _, each in code), number + 1, section)


def _prose(text: str) -> Iterator[str]:
    is_code = False
    for line in text.splitlines():
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield line
