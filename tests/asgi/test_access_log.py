"""What access logs show of a query."""

import logging

import pytest

from roost.asgi.access_log import MaskParameters, mask_query


@pytest.mark.parametrize(
    ("path", "masked"),
    [
        ("/", "/"),
        ("/a?", "/a?"),
        ("/a?vsn=2.0.0&n=1", "/a?vsn=2.0.0&n=1"),
        ("/a?token=abc&n=1", "/a?token=[FILTERED]&n=1"),
        ("/a?user%5BAPI_Token%5D=abc", "/a?user%5BAPI_Token%5D=[FILTERED]"),
        ("/a?%74oken=abc", "/a?%74oken=[FILTERED]"),
        ("/a?token", "/a?token"),
    ],
)
def test_parameters_that_are_masked(path: str, masked: str):
    """Those whose names contain token, password or secret, however they are written."""
    assert mask_query(path) == masked


def test_records_of_uvicorn():
    """The path is masked, all else is as it was; records of another shape pass unchanged."""
    record = logging.makeLogRecord(
        {"msg": "%s %s %s %s %d", "args": ("client", "GET", "/?token=abc", "1.1", 200)}
    )
    other = logging.makeLogRecord({"msg": "hello", "args": None})

    assert MaskParameters().filter(record)
    assert MaskParameters().filter(other)

    assert record.getMessage() == "client GET /?token=[FILTERED] 1.1 200"
    assert other.getMessage() == "hello"


def test_a_websocket_in_the_log_of_uvicorn_is_masked():
    """uvicorn has a line of another shape for it, which it logs without an access log, too."""
    record = logging.makeLogRecord(
        {"msg": '%s - "WebSocket %s" [accepted]', "args": ("client", "/?token=abc")}
    )

    assert MaskParameters().filter(record)

    assert record.getMessage() == 'client - "WebSocket /?token=[FILTERED]" [accepted]'


def test_names_of_ones_own_replace_the_default_ones():
    """As those of an endpoint's `filter_parameters` do, and in any case of letters."""
    record = logging.makeLogRecord(
        {"msg": '%s - "WebSocket %s" 403', "args": ("client", "/?iban=DE1&IBAN2=DE2&token=abc")}
    )

    assert MaskParameters(names=["Iban"]).filter(record)

    path = "/?iban=[FILTERED]&IBAN2=[FILTERED]&token=abc"
    assert record.getMessage() == f'client - "WebSocket {path}" 403'


def test_a_query_that_is_no_text():
    """A request may have any bytes in its query: they do not reach the terminal of who reads."""
    assert mask_query("/x?a=\x1b[2K&token=1") == "/x?a=\\x1b[2K&token=[FILTERED]"
    assert len(mask_query("/x?" + "a" * 100_000)) < 2_100
