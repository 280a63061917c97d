"""Request heads: read in full before anything is done about them, and bounded.

Theory of operation. A head is the request line and the header lines, up to an empty line. Whoever
sends one decides how many pieces it comes in, so that nothing here may cost more with many pieces
than with one: ``HeadReader`` only appends and looks at what is new, and ``parse_head`` runs once,
over what is whole. Whatever is over a bound, or is no head of HTTP/1, is a ``BadHead``: the
connection gets its ``status`` and is closed, since nobody knows where the next request begins.

Lenient parsers that disagree with those of proxies are how requests are smuggled (RFC 9112, 11.2).
Here a line ends with CR LF, a name is followed by its colon, and no line goes on in the next one.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = [
    "MAX_HEADER_COUNT",
    "MAX_HEAD_SIZE",
    "MAX_LINE_SIZE",
    "BadHead",
    "Head",
    "HeadReader",
    "parse_head",
]

MAX_HEAD_SIZE: Final = 65_536  # bytes
MAX_LINE_SIZE: Final = 16_384  # bytes of the request line, and of one header
MAX_HEADER_COUNT: Final = 128

BAD_REQUEST: Final = 400
URI_TOO_LONG: Final = 414
HEADERS_TOO_LARGE: Final = 431

_END: Final = b"\r\n\r\n"
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_REQUEST: Final = re.compile(rb"(%b) ([\x21-\x7e]++) HTTP/(1\.[01])" % _TOKEN)
# Possessive, so that what does not match costs no more than what does.
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]*+"
_HEADER: Final = re.compile(rb"(%b):(%b)\r\n" % (_TOKEN, _VALUE))
_HEADERS: Final = re.compile(rb"(?:%b:%b\r\n)*+" % (_TOKEN, _VALUE))
_BARE_LINE_FEED: Final = re.compile(rb"(?<!\r)\n")


class BadHead(Exception):
    """What came is no request, or is over a bound.

    Attributes:
        status: Of the answer.
        reason: A sentence for whoever sent it.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Head(msgspec.Struct, frozen=True, gc=False):
    """A request without its body.

    Args:
        method: As it was sent: methods have cases.
        target: Of the request line: ``/path?query``, a whole URL, or ``*``.
        version: Of HTTP: ``1.0`` or ``1.1``.
        headers: Names in lower case, values without the spaces around them.
        fields: Name → value, the last one of several.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]

    def get_all(self, name: bytes) -> list[bytes]:
        """The values of a header, in order."""
        if name not in self.fields:
            return []
        if len(self.fields) == len(self.headers):
            return [self.fields[name]]
        return [value for each, value in self.headers if each == name]

    @property
    def wants_websocket(self) -> bool:
        """Whether it asks to become a WebSocket (RFC 6455, 4.2.1)."""
        if self.fields.get(b"upgrade", b"").lower() != b"websocket":
            return False
        options = b",".join(self.get_all(b"connection")).lower()
        return options == b"upgrade" or b"upgrade" in map(bytes.strip, options.split(b","))

    @property
    def path_and_query(self) -> tuple[bytes, bytes]:
        """What is asked for; of a whole URL, what follows its host (RFC 9112, 3.2.2)."""
        target = self.target
        if not target.startswith(b"/"):
            target = _without_origin(target)
        path, _, query = target.partition(b"?")
        return path, query


def _without_origin(target: bytes) -> bytes:
    scheme, mark, rest = target.partition(b"://")
    if not mark or not scheme.isalpha():
        return target
    host = re.match(rb"[^/?#]*+", rest)
    assert host is not None, "it matches nothing, too"
    rest = rest[host.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def parse_head(data: bytes, end: int) -> Head:
    """Parse a whole head.

    Args:
        data: Begins with it.
        end: Where the empty line is that ends it: the index of CR LF CR LF.

    Raises:
        BadHead: It is none, is over a bound, or lacks its host.

    Example:
        >>> parse_head(b"GET /a HTTP/1.1\\r\\nHost: b\\r\\n\\r\\n", 24).headers
        [(b'host', b'b')]
    """
    line_end = data.find(b"\r\n", 0, end + 2)
    if line_end > MAX_LINE_SIZE:
        raise BadHead(URI_TOO_LONG, f"expected a request line of at most {MAX_LINE_SIZE} bytes")
    if end > MAX_HEAD_SIZE:
        raise _too_large()
    request = _REQUEST.fullmatch(data, 0, line_end)
    if request is None:
        raise BadHead(BAD_REQUEST, "expected a request line of HTTP/1.1")
    block = data[line_end + 2 : end + 2]
    if _HEADERS.fullmatch(block) is None:
        raise BadHead(BAD_REQUEST, "expected header lines: a name, a colon, a value")
    lines = _HEADER.findall(block)
    if len(block) > MAX_LINE_SIZE and max(map(len, block.split(b"\r\n"))) > MAX_LINE_SIZE:
        raise BadHead(HEADERS_TOO_LARGE, f"expected headers of at most {MAX_LINE_SIZE} bytes")
    if len(lines) > MAX_HEADER_COUNT:
        raise BadHead(HEADERS_TOO_LARGE, f"expected at most {MAX_HEADER_COUNT} headers")
    headers = [(name.lower(), value.strip(b" \t")) for name, value in lines]
    fields = dict(headers)
    method, target, version = request.groups()
    if b"host" not in fields:
        has_host = version == b"1.0"
    else:
        has_host = len(fields) == len(headers) or sum([name == b"host" for name, _ in headers]) == 1
    if not has_host:
        raise BadHead(BAD_REQUEST, "expected one host")
    return Head(method, target, version, headers, fields)


def _too_large() -> BadHead:
    return BadHead(HEADERS_TOO_LARGE, f"expected a request head of at most {MAX_HEAD_SIZE} bytes")


class HeadReader:
    """Gather one head, in however many pieces it comes.

    Example:
        >>> reader = HeadReader()
        >>> reader.receive(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r")
        >>> head, data, size = reader.receive(b"\\nmore")
        >>> head.target, data[size:]
        (b'/', b'more')
    """

    __slots__ = ("_data", "_dropped_size")

    def __init__(self) -> None:
        self._data: bytearray | None = None  # of a head that has not come whole
        self._dropped_size = 0  # of empty lines before it

    def receive(self, data: bytes) -> tuple[Head, bytes, int] | None:
        """Add what came.

        Returns:
            None until the head is whole; then the head, all that came from its beginning on, and
            where in that it ends.

        Raises:
            BadHead: There will be no head.
        """
        if self._data is None:
            if data[:1] != b"\r" and (end := data.find(_END)) >= 0:  # as nearly all come
                return parse_head(data, end), data, end + len(_END)
            self._data = bytearray()
        gathered = self._data
        start = max(0, len(gathered) - len(_END) + 1)
        gathered += data
        if gathered.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before it mean nothing
            self._drop_empty_lines(gathered)
            start = 0
        end = gathered.find(_END, start)
        if end >= 0:
            whole = bytes(gathered)
            self._data = None
            return parse_head(whole, end), whole, end + len(_END)
        if _BARE_LINE_FEED.search(gathered, start):
            raise BadHead(BAD_REQUEST, "expected lines that end with CR LF")
        size = len(gathered) + self._dropped_size
        if len(gathered) > MAX_LINE_SIZE and gathered.find(b"\r\n", 0, MAX_LINE_SIZE + 2) < 0:
            reason = f"expected a request line of at most {MAX_LINE_SIZE} bytes"
            raise BadHead(URI_TOO_LONG, reason)
        if size > MAX_HEAD_SIZE:
            raise _too_large()
        return None

    def _drop_empty_lines(self, gathered: bytearray) -> None:
        match = re.match(rb"(?:\r\n)++", gathered)
        size = 0 if match is None else match.end()
        del match  # a bytearray that is looked at can't shrink
        del gathered[:size]
        self._dropped_size += size
