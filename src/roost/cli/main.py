"""What the ``roost`` command can do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from roost.cli.client import client
from roost.cli.serve import serve

__all__ = ["main"]

USAGE = """\
usage: roost serve APP [OPTIONS]    serve an ASGI application, as in `roost serve app:app`
       roost serve --help           its options, which are those of uvicorn
       roost client URL TOPIC       show who is in a topic and what is said there, and say something
       roost client --help          its options
       roost --version
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Of the command line; by default those of this process.
    """
    match sys.argv[1:] if arguments is None else list(arguments):
        case ["serve", *rest]:
            serve(rest)
        case ["client", *rest]:
            client(rest)
        case ["--version"]:
            print(f"roost {version('roost')}")
        case ["--help" | "-h"]:
            print(USAGE, end="")
        case unknown:
            wrong = f"roost: no such command: {unknown[0]}\n" if unknown else ""
            print(f"{wrong}{USAGE}", end="", file=sys.stderr)
            sys.exit(2)
