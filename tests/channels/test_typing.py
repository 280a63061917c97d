"""What type checkers see: assigns that are typed, and handlers that keep their types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from typing import Any, TypedDict, assert_type

from roost import Channel, Endpoint, ReplyRef, Route, Socket, event, intercept


class Assigns(TypedDict):
    name: str
    count: int


class RoomChannel(Channel[Assigns]):
    async def join(self, topic: str, params: dict[str, Any]) -> dict[str, Any]:
        self.assigns["name"] = params["name"]
        self.assigns["count"] = 0
        assert_type(self.assigns, Assigns)
        return {"name": self.assigns["name"]}

    @event("count")
    def count(self, payload: Any) -> dict[str, int]:
        self.assigns["count"] += 1
        return {"count": self.assigns["count"]}

    @event("wrong")
    def wrong(self, payload: Any) -> None:
        self.assigns["name"] = 7  # error: incompatible type
        self.assigns["nmae"] = "alice"  # error: has no key "nmae"
        self.count(payload, 1)  # error: Too many arguments

    @intercept("shout")
    async def shout(self, payload: Any) -> None:
        assert_type(self.ref, ReplyRef)
        assert_type(self.count(payload), dict[str, int])

    def terminate(self, reason: str | BaseException) -> None:
        assert_type(self.topic, str)


class PlainChannel(Channel):
    def join(self, topic: str, params: dict[str, Any]) -> None:
        assert_type(self.assigns, dict[str, Any])


class UserSocket(Socket):
    channels = {"room:*": RoomChannel, "lobby": Route(PlainChannel, assigns={"role": "member"})}


endpoint = Endpoint({"/socket": UserSocket})
"""


def errors(program: str, folder: Path) -> dict[int, str]:
    """What mypy's strict mode says of a user's program, by line."""
    (folder / "program.py").write_text(program)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-pretty"]
    done = subprocess.run(
        [*mypy, "program.py"], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.stderr == ""
    lines = [line.split(":", 3) for line in done.stdout.splitlines()]
    return {int(number): message for _, number, _, message in lines}


def test_assigns_may_be_typed(tmp_path: Path):
    """Channel[Assigns] types the assigns, a plain Channel's are a dict, and both are strict."""
    expected = {
        number: line.split("# error: ")[1]
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# error" in line
    }

    found = errors(PROGRAM, tmp_path)

    assert found.keys() == expected.keys(), found
    assert all(expected[number] in found[number] for number in expected), found
