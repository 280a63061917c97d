"""The directory listing is the architecture: a module imports from its own layer or below."""

from __future__ import annotations

import ast
from pathlib import Path

import roost

PACKAGE = Path(roost.__file__).parent

# DESIGN: what lies below knows nothing of what lies above. ``client`` and ``testing`` are beside.
LAYERS = {
    "exceptions": 0,
    "aliases": 0,
    "naming": 0,
    "strict_json": 0,
    "logs": 0,
    "crdt": 1,
    "tracker": 2,
    "wire": 2,
    "pubsub": 3,
    "channels": 4,
    "presence": 5,
    "asgi": 6,
    "cli": 7,
    "client": 3,
    "testing": 8,
}
PURE = 2  # layers up to here know no task, socket, clock or random source
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


def test_pure_layers_know_no_task_clock_or_random_source():
    """Layers 0 to 2 get clocks and randomness as arguments."""
    impure = [
        (module, imported)
        for module, imported in imports()
        if module != "__init__" and LAYERS[room(module)] <= PURE
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
