"""The models of phoenix.js's presence hold and say what the real ones do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.models.phoenix_presence import (
    ClientPresence,
    HandWrittenPresence,
    Rules,
    own_keys,
)

ROOT = Path(__file__).parents[2]
PLAYER = Path(__file__).with_name("phoenix_presence.js")
HISTORY_COUNT = 400


def any_presences(rng: Random) -> Any:
    """Keys with metas, few enough to meet again; no ref is twice in one payload."""
    refs = rng.sample(range(9), rng.randrange(5))
    presences: dict[str, Any] = {}
    for ref in refs:
        entry = presences.setdefault(rng.choice(["bob", "alice", "7", "10"]), {"metas": []})
        entry["metas"].append({"phx_ref": str(ref), "n": rng.randrange(3)})
        entry["name"] = rng.choice("xy")
    return presences


def any_history(rng: Random) -> list[tuple[str, Any]]:
    history: list[tuple[str, Any]] = [("join", "1")]
    for number in range(rng.randrange(1, 12)):
        match rng.randrange(6):
            case 0:
                history.append(("join", f"r{number}"))
            case 1 | 2:
                history.append(("state", any_presences(rng)))
            case _:
                diff = {"joins": any_presences(rng), "leaves": any_presences(rng)}
                history.append(("diff", diff))
    return history


def play(history: list[tuple[str, Any]], rules: Rules) -> Any:
    """What the model holds and says after each event."""
    join_ref: str | None = None
    presence: Any = (
        HandWrittenPresence(rules) if rules == "1.2" else ClientPresence(lambda: join_ref, rules)
    )
    calls: list[Any] = []
    presence.on_join = lambda *change: calls.append(called("join", *change))
    presence.on_leave = lambda *change: calls.append(called("leave", *change))
    after = []
    for kind, payload in history:
        if kind == "join":
            join_ref = payload
        elif kind == "state":
            presence.receive_state(payload)
        else:
            presence.receive_diff(payload)
        state = [[key, presence.state[key]] for key in own_keys(presence.state)]
        after.append(json.loads(json.dumps([calls, state])))
    return after


def called(name: str, key: str, current: Any, other: Any) -> Any:
    return [
        name,
        key,
        *(each and [meta["phx_ref"] for meta in each["metas"]] for each in (current, other)),
    ]


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ("1.2", "node_modules/phoenix-v1/priv/static/phoenix.js"),
        ("1.4", "node_modules/phoenix-v1.4/priv/static/phoenix.js"),
        ("1.8", "node_modules/phoenix/priv/static/phoenix.cjs.js"),
    ],
)
def test_a_model_does_as_phoenix_does(rules: Rules, path: str):
    """Any history of joins, states and diffs leaves the same state and the same callbacks."""
    check(rules, ROOT / path)


def check(rules: Rules, path: Path) -> None:
    rng = Random(7)
    histories = [any_history(rng) for _ in range(HISTORY_COUNT)]
    result = subprocess.run(
        ["node", str(PLAYER), str(path)],
        input=json.dumps(histories),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for number, (history, expected) in enumerate(
        zip(histories, json.loads(result.stdout), strict=True)
    ):
        assert play(history, rules) == expected, f"history {number}: {history}"
