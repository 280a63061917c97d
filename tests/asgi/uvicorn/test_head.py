"""Request heads: what is one, what is none, and what is too large; in however many pieces."""

import itertools
from collections.abc import Iterable

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.asgi.uvicorn.head import (
    MAX_HEAD_SIZE,
    MAX_HEADER_COUNT,
    MAX_LINE_SIZE,
    BadHead,
    Head,
    HeadReader,
)
from tests.laws import LAW

GET = b"GET /room?a=1 HTTP/1.1\r\n"
HOST = b"Host: example.com\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"


def read(*pieces: bytes) -> Head:
    """The head that comes in these pieces, whole with the last one."""
    reader = HeadReader()
    *first, last = pieces
    for piece in first:
        assert reader.receive(piece) is None
    received = reader.receive(last)
    assert received is not None
    return received[0]


def status(*pieces: bytes) -> int:
    """Of the answer to what is no head."""
    outcome = read_all(pieces)
    assert isinstance(outcome, int), outcome
    return outcome


def read_all(pieces: Iterable[bytes]) -> object:
    """What becomes of bytes that come in pieces: a head and the rest, a status, or nothing yet."""
    reader = HeadReader()
    waiting = list(pieces)
    while waiting:
        try:
            received = reader.receive(waiting.pop(0))
        except BadHead as bad:
            return bad.status
        if received is not None:
            head, data, size = received
            return head, data[size:] + b"".join(waiting)
    return None


def test_a_head():
    """Names have no case, and values no spaces around them."""
    head = read(GET + HOST + b"X-Name: \t \xc3\xa4lice \t\r\nx-name:bob\r\nEmpty:\r\n\r\n")

    assert (head.method, head.target, head.version) == (b"GET", b"/room?a=1", b"1.1")
    assert head.headers == [
        (b"host", b"example.com"),
        (b"x-name", b"\xc3\xa4lice"),
        (b"x-name", b"bob"),
        (b"empty", b""),
    ]
    assert head.get_all(b"x-name") == [b"\xc3\xa4lice", b"bob"]
    assert head.get_all(b"host") == [b"example.com"]
    assert head.get_all(b"none") == []


def test_a_head_in_pieces():
    """It may be split anywhere, and what comes after it is handed on."""
    data = b"\r\n" + GET + HOST + UPGRADE + b"\r\nrest"
    for at in range(1, len(data) - len(b"rest")):
        reader = HeadReader()
        assert reader.receive(data[:at]) is None
        received = reader.receive(data[at:])

        assert received is not None
        head, all_data, size = received
        assert head.target == b"/room?a=1"
        assert all_data[size:] == b"rest"


def test_a_head_in_single_bytes():
    """No piece is too small."""
    data = GET + HOST + b"\r\n"
    assert read(*(data[at : at + 1] for at in range(len(data)))).target == b"/room?a=1"


@pytest.mark.parametrize(
    "target",
    [b"http://example.com/room?a=1", b"https://user@example.com:443/room?a=1", b"/room?a=1"],
)
def test_whole_urls(target: bytes):
    """A proxy may send one; its path is meant (RFC 9112, 3.2.2)."""
    head = read(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")

    assert head.path_and_query == (b"/room", b"a=1")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://example.com", (b"/", b"")),
        (b"http://example.com?a=1", (b"/", b"a=1")),
        (b"*", (b"*", b"")),
        (b"/?a=http://b/c", (b"/", b"a=http://b/c")),
        (b"/a?b?c", (b"/a", b"b?c")),
    ],
)
def test_strange_targets(target: bytes, expected: tuple[bytes, bytes]):
    """What has no path asks for the root."""
    head = read(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")

    assert head.path_and_query == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (UPGRADE, True),
        (b"UPGRADE: WebSocket\r\nconnection: keep-alive, upgrade\r\n", True),
        (b"Upgrade: websocket\r\nConnection: close\r\nConnection: x,Upgrade\r\n", True),
        (b"Upgrade: h2c\r\nConnection: Upgrade\r\n", False),
        (b"Upgrade: websocket\r\n", False),
        (b"Upgrade: websocket\r\nConnection: keep-upgrade\r\n", False),
        (b"", False),
    ],
)
def test_who_wants_a_websocket(lines: bytes, expected: bool):
    """Who names it in both headers."""
    assert read(GET + HOST + lines + b"\r\n").wants_websocket is expected


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\r\n\r\n",
        b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        GET + HOST + b"Name : a\r\n\r\n",
        GET + HOST + b" Name: a\r\n\r\n",
        GET + HOST + b"Name: a\r\n b\r\n\r\n",
        GET + HOST + b"Name\r\n\r\n",
        GET + HOST + b": a\r\n\r\n",
        GET + HOST + b"Name: a\rb\r\n\r\n",
        GET + HOST + b"Name: a\nb: c\r\n\r\n",
        GET + HOST + b"Name: \x00\r\n\r\n",
        GET + b"\r\n",
        GET + HOST + HOST + b"\r\n",
        b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n",
    ],
)
def test_what_is_no_head(data: bytes):
    """It gets 400, at the latest when it is whole."""
    assert status(data) == 400


def test_lines_without_carriage_returns():
    """They are noticed at once: nobody waits for the end of such a head."""
    assert status(b"GET / HTTP/1.1\n") == 400
    assert status(b"GET / HTTP/1.1\r\nHost: a\r", b"\n", b"\n") == 400


def test_http_1_0():
    """It needs no host."""
    assert read(b"GET / HTTP/1.0\r\n\r\n").version == b"1.0"


def test_a_request_line_that_is_too_long():
    """It gets 414, before it ends."""
    line = b"GET /" + b"a" * (MAX_LINE_SIZE - 14) + b" HTTP/1.1"
    assert len(line) == MAX_LINE_SIZE
    read(line + b"\r\n" + HOST + b"\r\n")

    assert status(line.replace(b" /", b" /a") + b"\r\n" + HOST + b"\r\n") == 414
    assert status(*[b"GET /" + b"a" * 1_024] * 17) == 414


def test_a_header_that_is_too_long():
    """It gets 431, when the head is whole or too large."""
    line = b"name: " + b"a" * (MAX_LINE_SIZE - 6)
    read(GET + HOST + line + b"\r\n\r\n")

    assert status(GET + HOST + line + b"a\r\n\r\n") == 431
    assert status(GET + HOST + b"name: ", *[b"a" * 1_024] * 64) == 431


def test_too_many_headers():
    """They get 431."""
    lines = b"a: b\r\n" * (MAX_HEADER_COUNT - 1)
    read(GET + HOST + lines + b"\r\n")

    assert status(GET + HOST + lines + b"a: b\r\n\r\n") == 431


def test_a_head_that_is_too_large():
    """It gets 431: when it is whole, and before it ends."""
    lines = [b"name: " + b"a" * 1_000 + b"\r\n"] * (MAX_HEAD_SIZE // 1_000)

    assert status(GET + HOST + b"".join(lines) + b"\r\n") == 431
    assert status(GET, HOST, *lines) == 431
    assert status(*[b"\r\n"] * MAX_HEAD_SIZE) == 431


def test_what_does_not_match_costs_no_more():
    """A header of nothing but spaces, with a character that none may have at its end."""
    data = GET + HOST + b"a:" + b" " * (MAX_LINE_SIZE - 10) + b"\x00\r\n"
    assert status(*[data[at : at + 4_096] for at in range(0, len(data), 4_096)], b"\r\n") == 400


# Fuzzing.

TOKENS = st.sampled_from([b"a", b"X-Name", b"host", b"Upgrade", b"connection", b"!#$%&'*+-.^_`|~"])
VALUES = st.binary(max_size=20).map(lambda value: bytes(b for b in value if b >= 32 and b != 127))
TARGETS = st.sampled_from([b"/", b"/%", b"/%zz?%", b"http://a/b", b"*", b"//a", b"/a?b#c"])
PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"GET ", b"/ ", b"HTTP/1.1", b"\r\n", b"\r", b"\n", b": ", b":", b" ", b"Host: a\r\n"]
        ),
        st.binary(max_size=5),
    ),
    max_size=20,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same in pieces."""
    ends = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@LAW
@given(PIECES.map(b"".join), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_in_any_pieces(data: bytes, cuts: list[int]):
    """They are a head, no head, or not enough; how they are cut makes no difference to a head."""
    whole = read_all([data])
    in_pieces = read_all(cut(data, cuts))

    if type(whole) is int:
        assert type(in_pieces) is int
    else:
        assert in_pieces == whole


@LAW
@given(TARGETS, st.lists(st.tuples(TOKENS, VALUES), max_size=8))
def test_heads_are_what_another_parser_takes_them_for(
    target: bytes, lines: list[tuple[bytes, bytes]]
):
    """httptools, which gets those that are no WebSockets, sees the same headers."""
    lines = [line for line in lines if line[0].lower() not in (b"host", b"upgrade", b"connection")]
    block = b"".join(b"%b: %b\r\n" % line for line in lines)
    data = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n" + block + b"\r\n"

    class Noting:
        def __init__(self) -> None:
            self.headers: list[tuple[bytes, bytes]] = []
            self.url = b""

        def on_url(self, url: bytes) -> None:
            self.url += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name.lower(), value.strip(b" \t")))

    noting = Noting()
    httptools.HttpRequestParser(noting).feed_data(data)
    head = read(data)

    assert head.headers == noting.headers
    assert head.target == noting.url
