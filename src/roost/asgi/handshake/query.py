"""Query strings with nested names, as phoenix.js writes them and Plug reads them."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

from roost.exceptions import InvalidMessage

__all__ = ["parse_query"]

MAX_COUNT: Final = 1_000  # parameters of one request
_PLAIN: Final = re.compile(rb"[\w.~-]++=[\w.~=/:@!$*,-]*+(?:&[\w.~-]++=[\w.~=/:@!$*,-]*+)*+")
MAX_DEPTH: Final = 32  # brackets of one name; Plug's limit


def parse_query(query: bytes) -> dict[str, Any]:
    """Decode a query string; ``a[b]=c`` nests, ``a[]=c`` appends, a repeated name counts last.

    Raises:
        InvalidMessage: It is not UTF-8, or has over 1,000 parameters.

    Example:
        >>> parse_query(b"vsn=2.0.0&user[name]=alice&tags[]=a&tags[]=b")
        {'vsn': '2.0.0', 'user': {'name': 'alice'}, 'tags': ['a', 'b']}
    """
    if _PLAIN.fullmatch(query):  # as nearly all are: nothing is escaped, and no name nests
        parts = query.decode("ascii").split("&", MAX_COUNT)
        if len(parts) <= MAX_COUNT:
            return {name: value for name, _, value in [part.partition("=") for part in parts]}
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=MAX_COUNT,
        )
    except ValueError as error:
        raise InvalidMessage("a query string in UTF-8", str(error)) from error
    params: dict[str, Any] = {}
    for name, value in pairs:
        _put(params, _path(name), value)
    return params


def _path(name: str) -> list[str]:
    """``a[b][]`` → ``a``, ``b``, ``""``; a name that is not of this form stands for itself."""
    head, bracket, rest = name.partition("[")
    if not bracket or not head or not rest.endswith("]"):
        return [name]
    parts = rest[:-1].split("][")
    if len(parts) > MAX_DEPTH or any("[" in part or "]" in part for part in parts):
        return [name]
    return [head, *parts]


def _put(params: dict[str, Any], path: list[str], value: str) -> None:
    *parents, last = path
    if last == "" and parents:
        *parents, last = parents
        for parent in parents:
            params = _child(params, parent)
        items = params.get(last)
        params[last] = [*items, value] if isinstance(items, list) else [value]
        return
    for parent in parents:
        params = _child(params, parent)
    params[last] = value


def _child(params: dict[str, Any], name: str) -> dict[str, Any]:
    child = params.get(name)
    if not isinstance(child, dict):
        child = params[name] = {}
    return child
