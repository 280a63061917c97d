"""A snippet is found whatever form the code has, and only where it is once."""

from __future__ import annotations

import ast

import pytest

from tests.mutations.snippets import NotOnce, replace

CODE = """
class Room:
    def enter(self, name):
        if name in self.names and not self.is_open:  # a comment
            return self.refuse(name, "there")
        self.names.add(name)
        self.count += 1

    def leave(self, name):
        self.names.discard(name)
        self.count -= 1
"""
REFORMATTED = """
class Room:

    # What comes first may have changed.
    def leave(self, name):
        self.count = (self.count - 1)
    class Door:
            def enter(self, name):
                if (
                    name in self.names
                    # a comment in between
                    and not (self.is_open)
                ):
                    return self.refuse(
                        name,
                        'there',
                    )
                self.names.add(name)
                self.count += 1
"""


def same(left: str, right: str) -> bool:
    return ast.dump(ast.parse(left)) == ast.dump(ast.parse(right))


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        ("and not self.is_open:", ":", "and not (self.is_open)", ""),
        ("if name in self.names and", "if", "name in self.names\n", "True\n"),
        ('self.refuse(name, "there")', "None", "self.refuse(\n", "None and (\n"),
        ('"there"', '"here"', "'there'", "'here'"),
        (
            'name, "there"',
            '"there", name',
            "name,\n                        'there',",
            "'there',name",
        ),
    ],
)
def test_the_form_of_the_code_does_not_matter(old, new, before, after):
    """Line breaks, comments, quotes, trailing commas and needless brackets are passed over."""
    changed = replace(REFORMATTED, old, new)

    assert not same(changed, REFORMATTED)
    ast.parse(changed)


def test_whole_lines_are_indented_as_the_code_is():
    """Statements that moved into another block take its indentation."""
    old = """
        self.names.add(name)
        self.count += 1
"""
    new = """
        if self.count:
            self.names.add(name)
"""

    for code in (CODE, REFORMATTED.replace("count +=", "count  +=")):
        changed = replace(code, old, new)

        assert "self.count += 1" not in ast.unparse(ast.parse(changed))
        assert "if self.count:\n" in ast.unparse(ast.parse(changed))


def test_nothing_is_left_where_nothing_takes_its_place():
    """A statement that is taken out leaves those around it as they are."""
    changed = replace(REFORMATTED, "\n        self.names.add(name)\n", "")

    assert same(changed, REFORMATTED.replace("self.names.add(name)", ""))


def test_a_place_may_be_named():
    """What is there twice is told apart by the function or class that it is in."""
    with pytest.raises(NotOnce) as error:
        replace("def f():\n  g()\n\ndef h():\n  g()\n", "g()", "i()")
    assert error.value.count == 2

    changed = replace(CODE, "self.count", "self.number", where="Room.leave")

    assert changed == CODE.replace("count -=", "number -=")


@pytest.mark.parametrize("old", ["self.names.remove(name)", "self.is_open and", "elif name", ""])
def test_what_is_not_there_is_not_found(old):
    """A snippet of which a part is not there is nowhere, and so is an empty one."""
    with pytest.raises(NotOnce):
        replace(REFORMATTED, old, "x")


def test_a_place_that_there_is_not_has_nothing():
    """A function that was renamed."""
    with pytest.raises(NotOnce):
        replace(CODE, "self.count += 1", "pass", where="Room.exit")


def test_other_code_is_not_the_same():
    """Brackets that make a call, and words that run together, are no matter of form."""
    for code, old in (("x = f(y)\n", "f, y"), ("x = notice\n", "not ice"), ("x = [1]\n", "(1)")):
        with pytest.raises(NotOnce):
            replace(code, old, "z")


def test_the_last_argument_may_get_one_behind_it_or_lose_it():
    """A comma after an argument counts neither before a closing bracket nor as its end."""
    assert replace("f(a, b)\n", "b,", "c,") == "f(a, c)\n"
    assert replace("f(a, b, d)\n", "b,", "c,") == "f(a, c, d)\n"
