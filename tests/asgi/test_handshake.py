"""What a client brings along, besides its parameters."""

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import WebSocket
from roost.asgi.handshake.request import choose_subprotocol, connect_info, split_auth_token
from roost.channels.socket import ConnectInfo
from roost.exceptions import InvalidMessage
from tests.asgi.scopes import websocket_scope

PREFIX = "base64url.bearer.phx."


def info(scope: Any, params: dict[str, Any] | None = None, **options: Any) -> ConnectInfo:
    return connect_info(
        scope, {}, params=params or {}, options=WebSocket(**options), auth_token=None
    )


@given(st.text())
def test_any_token_comes_through(token: str):
    """What phoenix.js does to a token is undone: standard base64 without its padding."""
    encoded = b64encode(token.encode()).decode().rstrip("=")

    assert split_auth_token(["phoenix", PREFIX + encoded]) == (token, ["phoenix"])


@pytest.mark.parametrize(
    "offered", [[], ["phoenix"], ["phoenix", f"{PREFIX}MQ", f"{PREFIX}Mg"]], ids=len
)
def test_no_token_or_several(offered: list[str]):
    """Then there is none; whatever looks like one is gone."""
    token, rest = split_auth_token(offered)

    assert token is None
    assert rest == [each for each in offered if each == "phoenix"]


@pytest.mark.parametrize("encoded", ["!", "M", "MTIz\n", "_-8"])
def test_tokens_that_are_none(encoded: str):
    """What is not base64 is refused."""
    with pytest.raises(InvalidMessage):
        split_auth_token([PREFIX + encoded])


@pytest.mark.parametrize(
    ("offered", "configured", "chosen"),
    [
        ([], [], (True, None)),
        (["a"], [], (True, None)),
        ([], ["a"], (True, None)),
        (["b", "a"], ["a", "b"], (True, "a")),
        (["c"], ["a", "b"], (False, None)),
    ],
)
def test_the_order_of_the_server_decides_on_the_subprotocol(
    offered: list[str], configured: list[str], chosen: tuple[bool, str | None]
):
    """The server's order decides; nothing configured or nothing offered is no reason to refuse."""
    assert choose_subprotocol(offered, configured) == chosen


@pytest.mark.parametrize(
    ("scheme", "host", "uri"),
    [
        ("ws", "example.com", ("http", "example.com", 80)),
        ("wss", "example.com", ("https", "example.com", 443)),
        ("wss", "example.com:4443", ("https", "example.com", 4443)),
        ("ws", "[::1]", ("http", "[::1]", 80)),
        ("ws", "[::1]:4000", ("http", "[::1]", 4000)),
        ("ws", "", ("http", "10.0.0.2", 80)),
    ],
)
def test_host_and_port_of_the_uri_come_from_the_host_header(
    scheme: str, host: str, uri: tuple[str, str, int]
):
    """Host and port come from the Host header, the port else from the scheme."""
    got = info(websocket_scope({"host": host}, scheme=scheme, query_string=b"a=1")).uri

    assert (got["scheme"], got["host"], got["port"]) == uri
    assert (got["path"], got["query"]) == ("/socket/websocket", "a=1")


def test_a_server_that_knows_little():
    """What ASGI makes optional may be missing."""
    scope = websocket_scope({"host": ""})
    del scope["client"], scope["server"]

    got = info(scope)

    assert got.peer_data == {"address": None, "port": None, "ssl_cert": None}
    assert got.uri["host"] is None
    assert got.user_agent is None
    assert got.session is None


@pytest.mark.parametrize(
    ("token", "options", "has_session"),
    [
        ("t0ken", {}, True),
        ("other", {}, False),
        (None, {}, False),
        (["t0ken"], {}, False),
        ("tökén", {}, False),
        ("t0ken", {"csrf_token_key": "other_key"}, False),
        ("other", {"csrf_token_key": "other_key"}, True),
        (None, {"check_csrf": False}, True),
    ],
)
def test_the_session_takes_the_csrf_token_that_is_in_it(
    token: Any, options: dict[str, Any], has_session: bool
):
    """Who wants the session shows the token that is in it, unless the mount does not ask."""
    session = {"user": "alice", "_csrf_token": "t0ken", "other_key": "other"}
    params = {} if token is None else {"_csrf_token": token}

    got = info(websocket_scope(session=session), params, **options).session

    assert got == (session if has_session else None)


@pytest.mark.parametrize("session", [{}, {"_csrf_token": None}, {"_csrf_token": 1}, None])
def test_sessions_without_a_token(session: Any):
    """A session that has no token is given to nobody."""
    assert info(websocket_scope(session=session), {"_csrf_token": ""}).session is None
