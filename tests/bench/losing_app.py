"""The bare server, but every 50th shout does not reach one of those who should get it."""

from __future__ import annotations

from bench.servers import bare

app = bare.app

_write = bare.Member.write
_count = 0


def _lose_some(self: bare.Member, text: str) -> None:
    global _count
    if '"shout"' in text:
        _count += 1
        if _count % 50 == 0:
            return
    _write(self, text)


bare.Member.write = _lose_some  # type: ignore[method-assign]
