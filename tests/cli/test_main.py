"""The `roost` command: what it can do, and what it says to what it can't."""

import sys
from importlib.metadata import version

import pytest

from roost.cli import main


def test_its_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    """It is the package's."""
    main(["--version"])

    assert capsys.readouterr().out == f"roost {version('roost')}\n"


def test_help_says_what_there_is(capsys: pytest.CaptureFixture[str]):
    """It says what there is."""
    main(["--help"])

    assert "roost serve APP" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"]])
def test_an_unknown_command(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """The usage, on stderr, and exit status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert "roost serve APP" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["uvicorn", "httptools", "websockets"])
def test_serving_without_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch):
    """The message names what is missing, and the command that installs it."""
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(SystemExit, match=rf'{missing}.*pip install "roost\[server\]"'):
        main(["serve", "app:app"])


def test_help_of_serve(capsys: pytest.CaptureFixture[str]):
    """The options are uvicorn's, with the defaults of roost."""
    with pytest.raises(SystemExit, match="0"):
        main(["serve", "--help"])

    out = capsys.readouterr().out
    assert out.startswith("Usage: roost serve")
    assert "[default:roost.asgi.uvicorn:HttpProtocol]" in "".join(out.split())
    assert "--max-connections-per-address" in out
