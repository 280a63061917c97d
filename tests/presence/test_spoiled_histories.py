"""The checker of the randomised test refuses what clients could have been told wrongly.

Real histories are recorded and spoiled in one place each. A spoiled history has to be refused,
unless it is one that a right server could have led to over a slow network. That is so:

- if the page was told the same: the message did not concern it (of an earlier join, before a state
  that has it all, or with nothing new);
- if it was told the same in another order, and ended the same;
- if it was told of a visit more or less, or earlier or later, between two looks at it: a server may
  leave out who comes and goes within one diff, and a page may see late who is gone;
- if it was told something twice, and ended the same, as by a state that repeats what is known.
"""

from __future__ import annotations

import logging
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.presence import test_at_random
from tests.presence.spoiled import Checked, RecordingClient, Replay, spoiled
from tests.virtual_clock import run_virtually

SEED_COUNT = 24
PLACES = 6  # of each history

check = test_at_random.World.check_client


class RecordingWorld(test_at_random.World):
    """Its clients keep their histories, also those that are gone."""

    all_clients: list[RecordingClient]

    def __init__(self, rng: Random) -> None:
        super().__init__(rng)
        RecordingWorld.all_clients = []

    async def check_everything_was_told(self) -> None:
        await super().check_everything_was_told()
        for client in self.clients:
            assert isinstance(client, RecordingClient)
            client.history.append(Checked.of(self.model, self.refs, fetches=self.fetches))
            if client not in self.all_clients:
                self.all_clients.append(client)


@pytest.fixture(autouse=True)
def records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_at_random, "PhoenixClient", RecordingClient)
    monkeypatch.setattr(test_at_random, "World", RecordingWorld)
    monkeypatch.setattr(logging.getLogger("roost.channels"), "disabled", True)  # they crash a lot


def recorded(seed: int) -> list[RecordingClient]:
    """All clients of a run that went well."""
    run_virtually(test_at_random.play(seed))
    return RecordingWorld.all_clients


def why_harmless(right: Replay, wrong: Replay) -> str | None:
    """Why a spoiled history may pass; None if nothing says so."""
    if wrong.told == right.told:
        return "the same was told"
    if _last_words(wrong) != _last_words(right):
        return None
    if Counter(wrong.told) == Counter(right.told):
        return "told in another order"
    return "told twice" if wrong.complaints or right.complaints else "a visit"


def _last_words(replay: Replay) -> set[tuple[int, str]]:
    """Who was there in the end, as far as each presence object of the page was told."""
    there: set[tuple[int, str]] = set()
    for number, what, ref in replay.told:
        (there.add if what == "join" else there.discard)((number, ref))
    return there


def test_a_history_is_the_same_when_played_again():
    """What is recorded is all that a client goes by."""
    for client in recorded(1):
        replay = Replay(client)

        assert replay.live(client.history, check) is None
        assert replay.presence.state == client.presence.state
        assert replay.count == client.count


def is_kept_up_to_date(client: RecordingClient) -> bool:
    """Whether its topic announces changes; what is shown may be old where it does not."""
    checked = [each for each in client.history if isinstance(each, Checked)]
    return any(each.model.policies[client.topic].announce for each in checked)


def test_spoiled_histories_are_refused():
    """A message dropped, doubled, swapped, delayed, changed, or sent to another: it is seen."""
    outcomes: Counter[Any] = Counter()
    for seed in range(SEED_COUNT):
        clients = [each for each in recorded(seed) if is_kept_up_to_date(each)]
        rng = Random(f"spoil {seed}")
        for client in clients:
            right = Replay(client)
            assert right.live(client.history, check) is None
            others = [each for each in clients if each is not client and each.topic == client.topic]
            other = rng.choice(others).history if others else ()
            for _ in range(PLACES):
                for what, history in spoiled(client.history, other, rng):
                    wrong = Replay(client)
                    complaint = wrong.live(history, check)
                    reason = "refused" if complaint else why_harmless(right, wrong)
                    assert reason is not None, (
                        f"seed {seed}: {what} passes: {wrong.told} for {right.told}"
                    )
                    outcomes[what, reason] += 1

    for what in ("dropped", "swapped", "changed", "delayed"):
        assert outcomes[what, "refused"] >= SEED_COUNT, f"{what}: {outcomes}"
