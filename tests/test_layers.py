"""The directory listing is the architecture: a module imports from its own layer or below."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import roost

PACKAGE = Path(roost.__file__).parent
ROOT = Path(__file__).parents[1]

# What lies below knows nothing of what lies above. ``testing`` is beside: nothing imports it.
LAYERS = {
    "exceptions": 0,
    "aliases": 0,
    "naming": 0,
    "strict_json": 0,
    "logs": 0,
    "crdt": 1,
    "tracker": 2,
    "wire": 2,
    "repeats": 3,
    "pubsub": 3,
    "tokens": 3,
    "channels": 4,
    "presence": 5,
    "asgi": 6,
    "cli": 7,
    "client": 3,
    "testing": 8,
}
# Rooms inside a layer, from the lowest; what is not in a room is above them all.
ROOMS = {
    "presence": ("owners", "following", "notifying"),
    "asgi": ("transports", "lifecycle", "handshake"),
    "pubsub": ("siblings", "broker"),
}
BESIDE = {  # modules of a room's layer that are below its rooms: what all of them speak of
    "presence": ("changes", "policy", "last_seen", "definition"),
    "asgi": ("types", "origin", "drainer", "mount", "access_log", "thread_calls"),
    "pubsub": ("adapter", "envelope", "node_names", "loop_lock", "registry"),
}
PURE = 2  # layers up to here know no task, socket, clock or random source
PURE_MODULES = {"channels.joins"}  # of higher layers
IMPURE_MODULES = {"asyncio", "random", "secrets", "select", "socket", "threading", "time"}
# Of the client these may, which run what the others decide.
CLIENT_SHELL = {
    f"client.{name}" for name in ("client", "channel", "messages", "presence", "link", "blocking")
}


def imports() -> list[tuple[str, str]]:
    """Every import of the package: (importing module, imported module)."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.append((module, node.module))
            elif isinstance(node, ast.Import):
                found += [(module, alias.name) for alias in node.names]
    return found


def modules() -> dict[str, set[str]]:
    """Module → modules of the package that it imports, also those for type checkers only."""
    names = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
    }
    found: dict[str, set[str]] = {name: set() for name in names}
    for module, imported in imports():
        name = imported.removeprefix("roost.")
        if imported.startswith("roost.") and name in names:
            found[module].add(name)
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, by whichever way."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for name in graph.get(waiting.pop(), ()):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return seen

    reach = {name: reached(name) for name in graph}
    groups = {
        frozenset(other for other in reach[name] if name in reach[other])
        for name in graph
        if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)


def place(module: str) -> int:
    """How high a module is inside its layer: below its rooms, in one of them, or above them."""
    layer, *rest = module.removeprefix("roost.").split(".")
    if not rest or rest[0] in BESIDE.get(layer, ()):
        return 0
    rooms = ROOMS.get(layer, ())
    return 1 + rooms.index(rest[0]) if rest[0] in rooms else 1 + len(rooms)


def room(module: str) -> str:
    """The first part of a module's name below ``roost``."""
    return module.removeprefix("roost.").split(".")[0]


def test_every_room_has_its_layer():
    """Each module and package of roost has a place in the layers."""
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}

    assert rooms - {"__init__", "__pycache__", "py"} <= LAYERS.keys()


def test_imports_go_down():
    """A module imports from its own layer downwards, never upwards."""
    upward = [
        (module, imported)
        for module, imported in imports()
        if imported.startswith("roost.") and module != "__init__"
        if LAYERS[room(imported)] > LAYERS[room(module)]
    ]

    assert upward == []


def test_imports_between_rooms_go_down():
    """Inside a layer, too, a room imports from those below it, never from those above."""
    upward = [
        (module, imported)
        for module, imported in imports()
        if imported.startswith("roost.")
        and room(module) == room(imported)
        and room(module) in ROOMS
        if not module.endswith("__init__") and place(imported) > place(module)
    ]

    assert upward == []


def test_no_modules_import_each_other():
    """There are no circles, not even for type checkers: a lower module says what it needs."""
    assert circles(modules()) == []


def test_the_map_names_what_is_there():
    """Each module and folder that ARCHITECTURE.md names exists; each room has its line."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([\w/.]+(?:\.py|/))`", text)) - {"src/roost/"}
    homes = (PACKAGE, ROOT, *(path for path in PACKAGE.iterdir() if path.is_dir()))

    assert [each for each in named if not any((home / each).exists() for home in homes)] == []
    assert {f"{layer}/" for layer in LAYERS if (PACKAGE / layer).is_dir()} <= named
    assert {f"{name}/" for rooms in ROOMS.values() for name in rooms} <= named


def test_circles_are_found():
    """The test above can fail."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_pure_layers_know_no_task_clock_or_random_source():
    """Layers 0 to 2 get clocks and randomness as arguments."""
    impure = [
        (module, imported)
        for module, imported in imports()
        if module != "__init__" and (LAYERS[room(module)] <= PURE or module in PURE_MODULES)
        if imported.split(".")[0] in IMPURE_MODULES
    ]

    assert impure == []


def test_the_client_stands_on_the_wire_alone():
    """A program with the client has no server in it."""
    strange = [
        (module, imported)
        for module, imported in imports()
        if room(module) == "client" and imported.startswith("roost.")
        if room(imported) not in ("client", "wire") and LAYERS[room(imported)] > 0
    ]

    assert strange == []


def test_the_core_of_the_client_is_pure():
    """What decides is tested without a network: only the shell knows asyncio and clocks."""
    impure = [
        (module, imported)
        for module, imported in imports()
        if room(module) == "client" and module not in CLIENT_SHELL
        if imported.split(".")[0] in IMPURE_MODULES - {"random"}  # for its type
    ]

    assert impure == []


def test_the_top_level_exports_what_it_imports():
    """``roost.__all__`` names what ``roost`` imports, sorted and not too many."""
    exported = [name for name in vars(roost) if not name.startswith("_")]
    public = {name for name in exported if not isinstance(vars(roost)[name], type(ast))}

    assert set(roost.__all__) == public
    assert len(roost.__all__) <= 30
