"""The package of the JavaScript client: what is in it, that it runs alone, and its types."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.javascript.suite import CLIENT, HERE

ROOT = HERE.parents[1]
TSC = ROOT / "node_modules" / "typescript" / "bin" / "tsc"
PROGRAM = """
import { Presence, Socket } from "@roost/client"
import Timer from "@roost/client/timer.js"
const socket = new Socket("ws://localhost/socket", { transport: class {} })
const presence = new Presence(socket.channel("room:1"))
process.stdout.write(JSON.stringify([socket.endPointURL(), presence.list(), typeof Timer]))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_has_everything_and_runs_alone(node: str, tmp_path: Path):
    """What `npm pack` makes is the modules, their types, a README and the licence, and it runs."""
    npm = Path(node).with_name("npm")
    made = json.loads(run(npm, "pack", "--json", "--pack-destination", tmp_path, cwd=CLIENT))
    files = {file["path"] for file in (made[0] if isinstance(made, list) else first(made))["files"]}
    modules = {path.name for path in CLIENT.glob("*.js")}
    assert files == modules | {"index.d.ts", "package.json", "README.md", "LICENSE"}

    package = tmp_path / "node_modules" / "@roost"
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as archive:
        archive.extractall(package, filter="data")
    (package / "package").rename(package / "client")
    (tmp_path / "program.mjs").write_text(PROGRAM)
    said = json.loads(run(node, "program.mjs", cwd=tmp_path))

    assert said == ["ws://localhost/socket/websocket?vsn=2.0.0", [], "function"]


def first(packages: Any) -> Any:
    """Newer versions of npm name the packages that they made."""
    return next(iter(packages.values()))


def test_sample_pages_have_the_right_types(node: str):
    """Pages check with all strictness, one that was written for phoenix, too; mistakes do not.

    A mistake that is not refused is an error by itself: each is marked with ``@ts-expect-error``.
    """
    run(node, TSC, "-p", HERE / "types", cwd=ROOT)


def test_every_export_has_a_type(node: str):
    """What the package exports is in its types, and nothing else is there as a value."""
    exported = json.loads(
        run(
            node,
            "--input-type=module",
            "-e",
            f"process.stdout.write(JSON.stringify(Object.keys(await import('{CLIENT}/index.js'))))",
            cwd=ROOT,
        )
    )
    types = (CLIENT / "index.d.ts").read_text()
    typed = re.findall(r"^export (?:class|function|const) (\w+)", types, flags=re.MULTILINE)

    assert set(typed) == set(exported)
