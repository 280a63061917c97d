"""A process that keeps clients connected: ``python -m bench.load.idle DIALECT URL KIND …``.

One process has no more sockets than the system lets it, and one address no more ports; so many
clients are several of these. It prints a line once all have joined, and ends when its input does.
"""

from __future__ import annotations

import sys
from threading import Thread
from typing import Final

from bench.load.crowd import Crowd
from bench.load.dialects import Dialect, Phoenix, SocketIO
from bench.load.frames import ProtocolError
from bench.load.joins import AT_ONCE
from bench.load.shares import use_core
from bench.load.target import Target, entry

DIALECTS: Final[dict[str, type[Dialect]]] = {"Phoenix": Phoenix, "SocketIO": SocketIO}


def main() -> None:
    dialect, url, kind, first, count, address, core = sys.argv[1:]
    use_core(int(core))
    target = Target(url, DIALECTS[dialect](), kind == "room")
    numbers = range(int(first), int(first) + int(count))
    with Crowd(url, int(address)) as crowd:
        crowd.connect_all(
            (entry(target, f"u{n}", [f"{kind}:{n}"]) for n in numbers), at_once=AT_ONCE, timeout=180
        )
        print("joined", flush=True)
        end = Thread(target=sys.stdin.read, daemon=True)
        end.start()
        while end.is_alive():
            try:
                crowd.step(0.2)
            except ProtocolError as error:  # noticed by who started this; unless it is all over
                sys.exit(f"an idle client: {error}")


if __name__ == "__main__":
    main()
