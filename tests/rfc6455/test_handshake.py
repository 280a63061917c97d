"""The opening handshake (RFC 6455, 4.2)."""

import base64
import hashlib

import pytest

from tests.rfc6455.conftest import Subject
from tests.rfc6455.wire import handshake, open_tcp

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


async def test_the_accept_header(subject: Subject):
    """It proves that the server read the key; the example is the RFC's."""
    request = handshake("/websocket?vsn=2.0.0").split(b"\r\n")
    request[4] = f"Sec-WebSocket-Key: {KEY}".encode()
    async with open_tcp(subject.url) as wire:
        await wire.shake_hands(b"\r\n".join(request))

    digest = hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    lines = wire.head.lower().split("\r\n")
    assert lines[0] == "http/1.1 101 switching protocols"
    assert f"sec-websocket-accept: {base64.b64encode(digest).decode().lower()}" in lines
    assert "upgrade: websocket" in lines
    assert "connection: upgrade" in lines


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (4, ""),
        (4, "Sec-WebSocket-Key: short"),
        (4, "Sec-WebSocket-Key: bm90IHNpeHRlZW4="),
        (5, ""),
        (5, "Sec-WebSocket-Version: 8"),
    ],
    ids=["no key", "no base64", "a short key", "no version", "an old version"],
)
async def test_a_wrong_handshake(subject: Subject, line: int, instead: str):
    """It gets 400, and the connection is closed."""
    request = handshake("/websocket?vsn=2.0.0").decode().split("\r\n")
    request[line : line + 1] = [instead] if instead else []
    async with open_tcp(subject.url) as wire:
        await wire.shake_hands("\r\n".join(request).encode())

        assert wire.status == 400
        assert "connection: close" in wire.head.lower()


async def test_headers_in_any_case(subject: Subject):
    """Names of headers and of the protocol have no case; Firefox sends two connection options."""
    request = handshake("/websocket?vsn=2.0.0").decode()
    request = request.replace("Upgrade: websocket", "UPGRADE: WebSocket")
    request = request.replace("Connection: Upgrade", "connection: keep-alive, upgrade")
    async with open_tcp(subject.url) as wire:
        await wire.shake_hands(request.encode())

        assert wire.status == 101
