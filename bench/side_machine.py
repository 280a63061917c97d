"""On what the side-by-side benchmark ran: processor, versions, and what else there was to do."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from json import loads
from pathlib import Path
from typing import Final

__all__ = ["describe_machine"]

PACKAGES: Final = (
    "uvicorn",
    "uvloop",
    "aiofastnet",
    "websockets",
    "hypercorn",
    "granian",
    "picows",
    "python-socketio",
    "channels",
    "channels-redis",
)
NODE_MODULES: Final = Path(__file__).parent / "node_modules"


def describe_machine(*, is_pinned: bool, load_before: Sequence[float]) -> str:
    """A list of what a reader should know of the machine."""
    cores = "server on core 0, generator on core 1" if is_pinned else "server and generator share"
    loads_seen = f"{load_before[0]:.1f} before, {os.getloadavg()[0]:.1f} after (one minute)"
    return "\n".join(
        [
            f"- **When:** {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; load average {loads_seen}.",
            f"- **Machine:** {_processor()}, {os.cpu_count()} cores, "
            f"{platform.system()} {platform.release()}; {cores}.",
            f"- **Versions:** {'; '.join(_versions())}.",
        ]
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> list[str]:
    found = [f"{platform.python_implementation()} {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    found.append(_output("node", "--version", name="Node.js"))
    for name in ("socket.io", "ws"):
        manifest = NODE_MODULES / name / "package.json"
        if manifest.is_file():
            found.append(f"{name} {loads(manifest.read_text(encoding='utf-8'))['version']}")
    found.append(_output("redis-server", "--version", name="Redis"))
    return found


def _output(program: str, *options: str, name: str) -> str:
    path = shutil.which(program)
    if path is None:
        return f"no {name}"
    text = subprocess.run([path, *options], capture_output=True, text=True, check=False).stdout
    numbers = [word for word in text.split() if any(letter.isdigit() for letter in word)]
    return f"{name} {numbers[0].removeprefix('v=').removeprefix('v') if numbers else text}"
