"""Seeds that nobody has played before, and how to play them again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fresh_seeds import first_of_commit, first_of_now
from tests.simulation import __main__ as command


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a git in place of the machine's, and say what it answers."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def answer(script: str) -> None:
        program = tmp_path / "git"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)

    return answer


def test_each_commit_has_seeds_of_its_own(git: Callable[[str], None]):
    """They are the same each time, and others with the next commit."""
    git("echo 72e5ea3bf007f0d0a1b2c3d4e5f60718293a4b5c")
    assert first_of_commit() == first_of_commit() == 0x72E5EA3BF007

    git("echo 95ec8ed0f007f0d0a1b2c3d4e5f60718293a4b5c")
    assert first_of_commit() == 0x95EC8ED0F007


@pytest.mark.parametrize("script", ["exit 128", "echo no hash", "true"])
def test_without_a_commit_seeds_are_random(git: Callable[[str], None], script: str):
    """A source archive has no history."""
    git(script)

    assert first_of_commit() != first_of_commit()


def test_without_git_seeds_are_random(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Some machines have none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert first_of_commit() != first_of_commit()


def test_whoever_begins_later_begins_beyond():
    """No seed takes as little as a microsecond."""
    first = first_of_now()

    assert first_of_now() >= first
    assert first > 1_000_000  # beyond all that were played by their numbers


def test_where_it_begins_is_printed_before_anything_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Whoever stops it knows what was played, and can play it again."""
    played: list[int] = []
    monkeypatch.setattr(command, "report_on", played.append)

    assert command.main(["3"]) == 0

    printed = capsys.readouterr()
    assert printed.err == f"playing 3 seeds from {played[0]}\n"
    assert printed.out == f"3 seeds from {played[0]}: 0 failed, 0 s\n"
    assert played == [played[0], played[0] + 1, played[0] + 2]


def test_a_first_seed_may_be_given(monkeypatch: pytest.MonkeyPatch):
    """The same seeds are the same histories."""
    played: list[int] = []
    monkeypatch.setattr(command, "report_on", played.append)

    command.main(["2", "7340012"])

    assert played == [7340012, 7340013]
