"""Options of an endpoint's sockets that can't work are refused where they are given."""

from typing import Any

import pytest

from roost import Endpoint, Mount, Socket, WebSocket
from roost.exceptions import ConfigurationError


@pytest.mark.conforms("EPS-1")
def test_a_transport_without_any_check():
    """Without origin check and CSRF check, any page could use a user's session."""
    websocket = WebSocket(check_origin=False, check_csrf=False)

    with pytest.raises(ConfigurationError, match="WebSocket transport of Socket has neither"):
        Endpoint({"/socket": Mount(Socket, websocket=websocket)})


@pytest.mark.conforms("EPS-2")
def test_an_endpoint_and_a_transport_without_any_check():
    """The endpoint's check_origin counts where the transport has none."""
    mount = Mount(Socket, websocket=WebSocket(check_csrf=False))

    with pytest.raises(ConfigurationError, match="neither an origin check nor a CSRF check"):
        Endpoint({"/socket": mount}, check_origin=False)


def test_a_transport_that_checks_the_origin_again():
    """A transport's own check_origin is enough."""
    websocket = WebSocket(check_origin=["example.com"], check_csrf=False)

    Endpoint({"/socket": Mount(Socket, websocket=websocket)}, check_origin=False)


@pytest.mark.conforms("EPS-3")
@pytest.mark.parametrize("option", ["drainer", "unknown"])
def test_an_option_that_the_transport_does_not_have_is_refused(option: str):
    """An option that the transport does not have is refused; the drainer is the mount's."""
    options: dict[str, Any] = {option: False}

    with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
        WebSocket(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": ["example.com"], "check_origin": False}, "not both"),
        ({"hosts": "example.com"}, "must be a list"),
        ({"hosts": ["//"]}, "has no host"),
        ({"check_origin": ["https://[example"]}, "is not a host"),
    ],
)
def test_origins_that_make_no_sense(options: dict[str, Any], message: str):
    """Hosts are checked when the endpoint is made, not when a browser connects."""
    with pytest.raises(ConfigurationError, match=message):
        Endpoint({"/socket": Socket}, **options)


def test_subprotocols_are_a_list():
    """A string would be read as a list of letters."""
    mount = Mount(Socket, websocket=WebSocket(subprotocols="chat"))

    with pytest.raises(ConfigurationError, match="subprotocols must be a list"):
        Endpoint({"/socket": mount})
