"""What applications define is run by ``channels/application.py``, and never past it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import roost
from roost.channels import application

PACKAGE: Final = Path(roost.__file__).parent

# Those who run it: an application's method is an argument of one of these, and nothing else.
WAYS: Final = {*application.__all__}
# Those of a Mailbox or a CallQueue, which use them.
QUEUES: Final = {"deliver", "post", "_post", "put", "_put"}


class Role(NamedTuple):
    """Objects of the application.

    Args:
        receivers: What our code calls them.
        methods: What they define for us to call.
    """

    receivers: frozenset[str]
    methods: frozenset[str]


def defined_in(path: str) -> frozenset[str]:
    """The methods of the section of a class that an application defines."""
    section = (PACKAGE / path).read_text().split("# What an application defines.\n", 1)[1]
    section = re.split(r"(?m)^    # [A-Z]", section)[0]
    return frozenset(re.findall(r"(?m)^    (?:async )?def (\w+)\(", section))


ROLES: Final = [
    Role(frozenset({"channel", "_channel"}), defined_in("channels/channel.py")),
    Role(frozenset({"socket", "instance"}), frozenset({"connect", "id"})),
    Role(frozenset({"presence", "_presence"}), defined_in("presence/presence.py")),
    # ``ChannelPresence``, where the channel's is called so.
    Role(frozenset({"presence"}), frozenset({"start", "stop"})),
    Role(frozenset({"tracker", "_tracker"}), defined_in("presence/tracker.py")),
    Role(frozenset({"store", "_store"}), frozenset({"open", "close", "record", "read"})),
]
FUNCTIONS: Final = {"_find", "_hook", "_meta", "subscriber"}  # that an application gave us

# Calls that are right as they are, and why.
ALLOWED: Final = {
    ("presence/track_joins.py", "_key"): "within ChannelPresence.start, which is called properly",
    ("presence/track_joins.py", "start"): "it is ChannelPresence.start",
    ("strict_json.py", "_convert"): "whoever encodes gets what the hook raises, or contains it",
    ("channels/ending.py", "_terminate"): "hands it to its ``_complete``, which calls ``complete``",
    ("channels/runner.py", "_run_in_thread"): "a step of the mailbox, in a thread",
    ("testing/case.py", "broadcast_from"): "names the sender, and calls nothing",
    ("pubsub/registry.py", "deliver"): "layer 3: it contains what is raised by itself",
}

# The channels and presences of the Python client are ours, and no application of the server's.
CLIENT: Final = ("client/", "cli/client.py")


class Finding(NamedTuple):
    path: str
    function: str
    line: int
    code: str


def findings(path: str, source: str) -> Iterator[Finding]:
    """Where code of the application is called, or handed on, past the one way."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    steps = {
        argument.attr if isinstance(argument, ast.Attribute) else argument.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name(node.func) in QUEUES
        for argument in node.args[:1]
        if isinstance(argument, ast.Attribute | ast.Name)
    }
    aliases = {
        (function_of(node, parents), target.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_application(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        function = function_of(node, parents)
        is_alias = (
            isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Load)
            and (function, node.id) in aliases
        )
        if not is_alias and not is_application(node):
            continue
        parent = parents[node]
        if isinstance(parent, ast.Call):
            if parent.func is node:
                if function in steps:
                    continue  # a step of a mailbox
            elif is_way(parent.func):
                continue
        elif not isinstance(parent, ast.Expr):
            continue  # assigned, returned or compared
        if (path, function) not in ALLOWED:
            yield Finding(path, function, parent.lineno, ast.unparse(parent))


def is_application(node: ast.AST) -> bool:
    """Whether an expression is a method or function of the application."""
    if isinstance(node, ast.Call) and name(node.func) == "getattr":
        return "handler.method" in ast.unparse(node)
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return False
    if node.attr in FUNCTIONS:
        return True
    receiver = name(node.value)
    return any(receiver in role.receivers and node.attr in role.methods for role in ROLES)


def is_way(function: ast.AST) -> bool:
    """Whether a function is one of those who run code of the application."""
    if isinstance(function, ast.Attribute):
        is_ours = name(function.value) == "application"
        return function.attr in QUEUES or (is_ours and function.attr in WAYS)
    return name(function) in WAYS


def name(node: ast.AST) -> str:
    """The last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def function_of(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    """The name of the function around a node."""
    while node in parents:
        node = parents[node]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return node.name
    return ""


def test_the_roles_are_known():
    """What applications define is what their guides tell of."""
    assert {"fetch", "policy", "on_join", "handle_metas", "dispatch"} <= ROLES[2].methods
    assert {"join", "after_join", "handle_in", "handle_info", "terminate"} == ROLES[0].methods
    assert {"handle_diff", "handle_info"} == ROLES[4].methods


def test_code_of_the_application_is_run_in_the_one_way():
    """Nobody calls it directly, or hands it to somebody who would."""
    found = [
        finding
        for file in sorted(PACKAGE.rglob("*.py"))
        if not (path := file.relative_to(PACKAGE).as_posix()).startswith(CLIENT)
        for finding in findings(path, file.read_text())
    ]

    assert found == []


def test_what_is_allowed_is_there():
    """An exception that nothing needs any more is taken off the list."""
    for path, function in ALLOWED:
        assert re.search(rf"def {function}\(", (PACKAGE / path).read_text())


@pytest.mark.parametrize(
    "code",
    [
        "self._presence.on_join(change)",
        "result = await self._presence.fetch(topic, presences)",
        "run.presence.policy(topic)",
        "context.run(channel.join, topic, params)",
        "loop.call_soon(self._presence.on_leave, change)",
        "await self._store.record(times)",
        "fetch = self._presence.fetch\n    fetch(topic, presences)",
        "getattr(channel, handler.method)(payload)",
        "socket.id()",
        "self._tracker.handle_diff(diff)",
    ],
)
def test_a_way_past_it_is_found(code: str):
    """The test above can fail."""
    assert list(findings("a.py", f"async def f(self):\n    {code}\n"))


def test_the_ways_themselves_are_no_finding():
    """A method may be an argument of those who run it, and of a queue."""
    code = (
        "async def f(self):\n"
        "    call(context, self._presence.on_join, change)\n"
        "    await run(context, self._store.record, times)\n"
        "    self._calls.put(self._tracker.handle_diff, diff, context)\n"
    )

    assert list(findings("a.py", code)) == []
