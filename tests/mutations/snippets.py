"""Where a snippet of code is, whatever form the code has been given since the snippet was cut.

Code is compared as its tokens: how lines are broken, indented and commented does not matter, nor
which quotes strings have, nor commas before a closing bracket. If that finds nothing, brackets do
not matter either, since a formatter adds them where a line becomes too long. A snippet need be no
whole statement: the head of an ``if``, or an argument, is enough.

``where`` narrows the search to one function or class, by its qualified name, wherever in the module
that is.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

__all__ = ["NotOnce", "replace"]

_TOKEN: Final = re.compile(r"\w+|[^\w\s]")
_COMMENT: Final = re.compile(r"(?:^|(?<=\s\s))#.*$", re.MULTILINE)  # where nothing can be parsed
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_ROUND: Final = frozenset("()")


class NotOnce(Exception):
    """The snippet is not there, or in several places.

    Args:
        count: In how many.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


class _Token(NamedTuple):
    text: str
    start: int
    end: int


def replace(code: str, old: str, new: str, *, where: str | None = None) -> str:
    """``code`` with ``new`` in the one place that reads ``old``.

    Args:
        code: A module.
        old: What is there. If it begins with a line break it is whole lines, from their indentation
            on.
        new: What takes its place, indented as if ``old`` were there to the letter.
        where: Qualified name of the function or class that it is in; None: anywhere.

    Raises:
        NotOnce: There is not exactly one place.

    Example:
        >>> replace("x = f(\\n    1,  # one\\n)", "f(1)", "f(2)")
        'x = f(2)'
        >>> replace("def f():\\n  g()\\n\\ndef h():\\n  g()\\n", "g()", "i()", where="h")
        'def f():\\n  g()\\n\\ndef h():\\n  i()\\n'
    """
    first, last = (0, len(code)) if where is None else _span(code, where)
    count = code.count(old, first, last)
    if count == 1:
        at = code.index(old, first, last)
        return code[:at] + new + code[at + len(old) :]
    if count > 1:
        raise NotOnce(count)
    wanted = _tokens(old)
    there = [each for each in _tokens(code) if first <= each.start and each.end <= last]
    for brackets_count in (True, False):
        found = _find(there, wanted, brackets_count=brackets_count)
        if len(found) == 1:
            begin, end = _balance(there, *found[0], depth=_depth(wanted))
            missing = _depth(there[begin:end]) - _depth(wanted)
            start, stop = there[begin].start, there[end - 1].end
            return _put(code, start, stop, old, _with_brackets(new, missing))
        if found:
            raise NotOnce(len(found))
    if old.rstrip().endswith(",") and new.rstrip().endswith(","):  # the last argument, by now
        old, new = (each.rstrip().removesuffix(",") for each in (old, new))
        return replace(code, old, new, where=where)
    raise NotOnce(0)


# Where.


@lru_cache
def _places(code: str) -> dict[str, tuple[int, int]]:
    """Qualified name → where in the code it begins and ends, its decorators included."""
    lines = [0]
    for line in code.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    places: dict[str, tuple[int, int]] = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}{child.name}"
                begin = min((child.lineno, *(each.lineno for each in child.decorator_list)))
                assert child.end_lineno is not None
                places[name] = lines[begin - 1], lines[child.end_lineno]
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    visit(ast.parse(code), "")
    return places


def _span(code: str, where: str) -> tuple[int, int]:
    place = _places(code).get(where)
    if place is None:
        raise NotOnce(0)
    return place


# Tokens.


@lru_cache(maxsize=1_024)
def _tokens(code: str) -> tuple[_Token, ...]:
    blank = _without_comments(code)
    return tuple(
        _Token(match[0].replace("'", '"'), match.start(), match.end())
        for match in _TOKEN.finditer(blank)
    )


def _without_comments(code: str) -> str:
    """The same code, with spaces in place of its comments."""
    lines = code.splitlines(keepends=True)
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                line = lines[row - 1]
                end = column + len(token.string)
                lines[row - 1] = line[:column] + " " * len(token.string) + line[end:]
    except (tokenize.TokenError, SyntaxError):  # a snippet that is no code by itself
        return _COMMENT.sub(lambda match: " " * len(match[0]), code)
    return "".join(lines)


def _find(
    there: Sequence[_Token], wanted: Sequence[_Token], *, brackets_count: bool
) -> list[tuple[int, int]]:
    """Where ``wanted`` is: from which token, to before which."""
    found: list[tuple[int, int]] = []
    for begin, token in enumerate(there):
        if token.text != wanted[0].text:
            continue
        end = _match(there, begin, wanted, brackets_count=brackets_count)
        if end is not None:
            found.append((begin, end))
    return found


def _match(
    there: Sequence[_Token], begin: int, wanted: Sequence[_Token], *, brackets_count: bool
) -> int | None:
    def may_be_passed_over(tokens: Sequence[_Token], index: int) -> bool:
        return index < len(tokens) and (
            _is_trailing(tokens, index) or (not brackets_count and tokens[index].text in _ROUND)
        )

    at, index = begin, 0
    while index < len(wanted):
        if at < len(there) and there[at].text == wanted[index].text:
            at, index = at + 1, index + 1
        elif may_be_passed_over(there, at):
            at += 1
        elif may_be_passed_over(wanted, index):
            index += 1
        else:
            return None
    return at


def _is_trailing(tokens: Sequence[_Token], index: int) -> bool:
    """Whether this is a comma before a closing bracket."""
    return (
        tokens[index].text == "," and index + 1 < len(tokens) and tokens[index + 1].text in _CLOSE
    )


def _balance(there: Sequence[_Token], begin: int, end: int, *, depth: int) -> tuple[int, int]:
    """Take in the other ends of the brackets that were passed over, where they are next."""
    found = _depth(there[begin:end])
    while found > depth and end < len(there) and there[end].text == ")":
        end, found = end + 1, found - 1
    while found < depth and begin > 0 and there[begin - 1].text == "(":
        begin, found = begin - 1, found + 1
    return begin, end


def _with_brackets(new: str, missing: int) -> str:
    """Keep those brackets that were passed over whose other ends are elsewhere."""
    text = new.rstrip()
    if missing > 0:
        return f"{text} {'(' * missing}{new[len(text) :]}"
    text = new.lstrip()
    return f"{new[: len(new) - len(text)]}{')' * -missing}{text}"


def _depth(tokens: Sequence[_Token]) -> int:
    return sum((each.text == "(") - (each.text == ")") for each in tokens)


# Replacing.


def _put(code: str, start: int, end: int, old: str, new: str) -> str:
    """``new`` in place of ``code[start:end]``, which is another form of ``old``."""
    line_start = code.rfind("\n", 0, start) + 1
    indentation = code[line_start:start]
    if old.startswith("\n") and not indentation.strip():
        shift = len(indentation) - _indentation(old)
        return code[:line_start] + _shifted(new.strip("\n"), shift) + code[end:]
    is_long = "\n" in old.strip()
    shift = _indentation(code[line_start:]) - _guessed_indentation(old if is_long else new)
    first, line_break, rest = new.strip().partition("\n")
    return code[:start] + first + line_break + _shifted(rest, shift) + code[end:]


def _indentation(text: str) -> int:
    line = next((each for each in text.splitlines() if each.strip()), "")
    return len(line) - len(line.lstrip())


def _guessed_indentation(snippet: str) -> int:
    """That of the statement that a snippet begins in the middle of, by the lines that follow."""
    first, _, rest = snippet.strip().partition("\n")
    if not rest:
        return 0
    return _indentation(rest) - (4 if first.endswith((":", *_OPEN)) else 0)


def _shifted(text: str, shift: int) -> str:
    lines = text.split("\n")
    if shift >= 0:
        return "\n".join(" " * shift + each if each.strip() else each for each in lines)
    return "\n".join(
        each[min(-shift, len(each) - len(each.lstrip())) :] if each.strip() else each
        for each in lines
    )
