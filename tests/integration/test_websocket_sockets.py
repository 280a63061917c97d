"""The WebSocket transport below the channels: handshakes, paths, control frames."""

import asyncio
import logging
from typing import Any

import httpx
import pytest

from roost import Channel, ConnectInfo, Endpoint, Mount, Socket, WebSocket, event
from tests.clients import connect, refusal
from tests.servers import run_uvicorn

pytestmark = pytest.mark.usefixtures("each_path")


class EchoChannel(Channel):
    """Answers with the connection's parameters, or later by itself."""

    def join(self, topic: str, params: Any) -> dict[str, Any]:
        return {"params": self.assigns["params"]}

    @event("later")
    def later(self, payload: Any) -> None:
        self.send_after(0, payload)

    def handle_info(self, message: Any) -> None:
        self.push("now", message)


class EchoSocket(Socket):
    channels = {"echo:*": EchoChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        self.assigns["params"] = params


@pytest.mark.conforms("WSS-1")
async def test_a_request_that_is_no_handshake():
    """A GET gets 400 and an explanation, any other method 400."""
    async with run_uvicorn(Endpoint({"/socket": EchoSocket})) as url, httpx.AsyncClient() as http:
        get = await http.get(f"{url}/socket/websocket")
        post = await http.post(f"{url}/socket/websocket", content=b"hi")

    assert get.status_code == 400
    assert "the `connection` header must contain `upgrade`" in get.text
    assert (post.status_code, post.text) == (400, "")


@pytest.mark.conforms("WSS-2")
async def test_the_origin_of_a_page(caplog: pytest.LogCaptureFixture):
    """By default pages of the server's own host may connect; a refused origin is logged."""
    async with run_uvicorn(Endpoint({"/socket": EchoSocket})) as url:
        async with connect(url, origin="https://127.0.0.1:1234") as alice:
            await alice.join("echo:1")

        refused = await refusal(url, origin="http://notallowed.com")

    assert (refused.status, refused.body) == (403, b"")
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage().startswith("refused the origin 'http://notallowed.com'")


@pytest.mark.conforms("WSS-3")
async def test_what_the_client_offers_must_have_a_configured_subprotocol(
    caplog: pytest.LogCaptureFixture,
):
    """What the client offers must have one that is configured; to offer none is fine."""
    mount = Mount(EchoSocket, websocket=WebSocket(subprotocols=["sip", "chat"]))
    async with run_uvicorn(Endpoint({"/socket": mount})) as url:
        async with connect(url, subprotocols=["chat", "sip"]) as alice:
            assert alice.websocket.subprotocol == "sip"
        async with connect(url) as alice:
            assert alice.websocket.subprotocol is None

        refused = await refusal(url, subprotocols=["xmpp"])

    assert (refused.status, refused.body) == (403, b"")
    assert "refused the subprotocols ['xmpp']" in caplog.text


async def test_a_token_that_nobody_asked_for(caplog: pytest.LogCaptureFixture):
    """What a client sends as authToken is in no log, also if the mount takes none."""
    mount = Mount(EchoSocket, websocket=WebSocket(subprotocols=["sip"]))
    async with run_uvicorn(Endpoint({"/socket": mount})) as url:
        await refusal(url, subprotocols=["phoenix", "base64url.bearer.phx.MTIzNA"])

    assert "['phoenix', 'base64url.bearer.phx.[FILTERED]']" in caplog.text
    assert "MTIzNA" not in caplog.text


@pytest.mark.parametrize(
    ("offered", "token"),
    [
        (["phoenix", "base64url.bearer.phx.MTIzNA"], "1234"),
        (["phoenix", "base64url.bearer.phx.4pyT"], "✓"),
        (["phoenix", "base64url.bearer.phx.bfxsbGVy"], "müller"),  # btoa("müller")
        (["phoenix"], None),
        ([], None),
    ],
)
async def test_the_auth_token_of_phoenix_js(offered: list[str], token: str | None):
    """It comes as a subprotocol, next to the one that is answered."""
    infos = []

    class TokenSocket(Socket):
        def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
            infos.append(info)

    endpoint = Endpoint({"/socket": Mount(TokenSocket, auth_token=True)})
    async with (
        run_uvicorn(endpoint) as url,
        connect(url, subprotocols=offered or None) as alice,
    ):
        assert alice.websocket.subprotocol == ("phoenix" if offered else None)
    assert [info.auth_token for info in infos] == [token]


async def test_an_auth_token_that_is_none():
    """What can't be decoded gets 400."""
    endpoint = Endpoint({"/socket": Mount(EchoSocket, auth_token=True)})
    async with run_uvicorn(endpoint) as url:
        refused = await refusal(url, subprotocols=["phoenix", "base64url.bearer.phx.!"])

    assert refused.status == 400


@pytest.mark.conforms("WSS-4")
async def test_query_parameters_reach_connect_decoded():
    """They reach `connect`, decoded."""
    async with (
        run_uvicorn(Endpoint({"/socket": EchoSocket})) as url,
        connect(url, params=[("key", "välue"), ("user[name]", "alice")]) as alice,
    ):
        joined = await alice.join("echo:1")

    assert joined == {"params": {"key": "välue", "user": {"name": "alice"}, "vsn": "2.0.0"}}


@pytest.mark.conforms("WSS-5")
async def test_pings_are_answered_with_what_they_carry():
    """They are answered with what they carry, and the connection goes on."""
    async with run_uvicorn(Endpoint({"/socket": EchoSocket})) as url, connect(url) as alice:
        for payload in (b"", b"hello"):
            async with asyncio.timeout(5):
                await (await alice.websocket.ping(payload))
        await alice.websocket.pong(b"unasked")

        await alice.join("echo:1")


@pytest.mark.conforms("WSS-6")
async def test_a_push_without_a_message_of_the_client():
    """What a channel says by itself arrives."""
    async with run_uvicorn(Endpoint({"/socket": EchoSocket})) as url, connect(url) as alice:
        await alice.join("echo:1")
        await alice.push("echo:1", "later", {"body": "ping"})

        assert await alice.receive("now") == {"body": "ping"}


@pytest.mark.conforms("WSS-7")
async def test_a_path_of_the_transport():
    """The transport's path takes the place of /websocket."""
    mount = Mount(EchoSocket, websocket=WebSocket(path="/nested/path"))
    async with run_uvicorn(Endpoint({"/custom/some_path": mount})) as url:
        async with connect(url, websocket_path="/custom/some_path/nested/path") as alice:
            await alice.join("echo:1")

        assert (await refusal(url, "/custom/some_path")).status == 404


@pytest.mark.conforms("WSS-8")
async def test_path_variables_reach_connect_and_win_over_the_query():
    """Segments of both paths reach `connect`, with the query, and win over it."""
    mount = Mount(EchoSocket, websocket=WebSocket(path=":path_var/:_hidden/path"))
    async with (
        run_uvicorn(Endpoint({"/custom/:socket_var": mount})) as url,
        connect(
            url,
            params={"key": "value", "path_var": "overridden"},
            websocket_path="/custom/12%203/456/789/path",
        ) as alice,
    ):
        joined = await alice.join("echo:1")

    assert joined == {
        "params": {"key": "value", "socket_var": "12 3", "path_var": "456", "vsn": "2.0.0"}
    }
