"""Run one benchmark by name.

A benchmark is a module of this package with a docstring whose first line says what it measures,
``add_arguments(parser)`` for its options, and ``run(arguments)``, which returns Markdown. Add a new
one to ``BENCHMARKS``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import nodes, replication, rooms, side_by_side, tracker, transfer

BENCHMARKS: Final = {
    "tracker": tracker,
    "rooms": rooms,
    "replication": replication,
    "nodes": nodes,
    "transfer": transfer,
    "side": side_by_side,
}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of roost.")
    names = parser.add_subparsers(title="benchmarks", dest="name", metavar="NAME")
    for name, module in BENCHMARKS.items():
        about = (module.__doc__ or "").partition("\n")[0]
        benchmark = names.add_parser(name, help=about, description=about)
        benchmark.add_argument(
            "--markdown", type=Path, metavar="FILE", help="write the tables to FILE as well"
        )
        module.add_arguments(benchmark)
    arguments = parser.parse_args(argv)
    if arguments.name is None:
        parser.print_help()
        return
    tables = BENCHMARKS[arguments.name].run(arguments)
    print(tables)
    if arguments.markdown is not None:
        arguments.markdown.write_text(tables, encoding="utf-8")


if __name__ == "__main__":
    main()
