"""Which pages may connect: Phoenix's rules, and the request's own host as the default."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.asgi.origin import CheckOrigin, Origin, OriginPolicy
from roost.exceptions import ConfigurationError
from tests.asgi.scopes import websocket_scope


def allows(check: CheckOrigin, origin: str | None, **scope: Any) -> bool:
    """Whether a page of that origin may connect to example.com."""
    headers = scope.pop("headers", {})
    if origin is not None:
        headers = {**headers, "origin": origin}
    # An empty origin is a header, too.
    made = websocket_scope(headers, **scope)
    if origin == "":
        made["headers"].append((b"origin", b""))
    return OriginPolicy(check).allows(made)


@pytest.mark.parametrize("check", [True, "conn", ["example.com"], lambda origin: False, False])
def test_a_request_without_origin(check: CheckOrigin):
    """Only browsers send one; others pass."""
    assert allows(check, None)


@pytest.mark.parametrize("origin", ["http://evil.com", "null", "", "file://", "http://[", "\x00"])
def test_with_false_every_origin_passes(origin: str):
    """With False, everything passes, also what is no origin."""
    assert allows(False, origin)


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        ("http://example.com", True),
        ("https://example.com:1234", True),
        ("HTTP://EXAMPLE.com", True),
        ("http://www.example.com", False),
        ("http://example.com.evil.com", False),
        ("http://notexample.com", False),
        ("http://evil.com", False),
    ],
)
def test_by_default_the_host_of_the_request_may_connect(origin: str, is_allowed: bool):
    """The host that the request is for; scheme and port do not matter."""
    assert allows(True, origin) is is_allowed


def test_the_default_behind_a_port_and_in_ipv6():
    """The host is read out of the Host header, whatever else is there."""
    assert allows(True, "http://localhost:3000", headers={"host": "localhost:4000"})
    assert allows(True, "http://[::1]:3000", headers={"host": "[::1]:4000"})
    assert not allows(True, "http://[::2]:3000", headers={"host": "[::1]:4000"})
    assert not allows(True, "http://example.com", headers={"host": ""})


@pytest.mark.parametrize("check", [True, ["example.com"], "conn"])
@pytest.mark.parametrize("origin", ["null", "", "file://", "http://[", "https://", "http://a:b"])
def test_origins_without_a_host(check: CheckOrigin, origin: str):
    """They are refused: local files and sandboxed frames have no business here."""
    assert not allows(check, origin)


@pytest.mark.parametrize(
    ("entry", "origin", "is_allowed"),
    [
        ("example.com", "http://example.com", True),
        ("example.com", "https://example.com:81", True),
        ("//example.com", "ws://example.com", True),
        ("//example.com", "http://www.example.com", False),
        ("http://scheme.com", "http://scheme.com", True),
        ("http://scheme.com", "http://scheme.com:80", True),
        ("http://scheme.com", "https://scheme.com", False),
        ("http://scheme.com", "http://scheme.com:8080", False),
        ("//port.com:81", "http://port.com:81", True),
        ("//port.com:81", "https://port.com:81", True),
        ("//port.com:81", "http://port.com", False),
        ("//port.com:81", "http://port.com:82", False),
        ("https://both.com:8443", "https://both.com:8443", True),
        ("https://both.com:8443", "http://both.com:8443", False),
        ("//*.ex.com", "http://org1.ex.com", True),
        ("//*.ex.com", "http://a.b.ex.com", True),
        ("//*.ex.com", "http://ex.com", True),
        ("//*.ex.com", "http://prefix-ex.com", False),
        ("//*.ex.com", "http://ex.com.evil.com", False),
        ("https://*.ex.com", "https://org1.ex.com", True),
        ("https://*.ex.com", "http://org1.ex.com", False),
        ("//*.foo.example.com", "http://foo.example.com", True),
        ("//*.foo.example.com", "http://bar.foo.example.com", True),
        ("//*.foo.example.com", "http://example.com", False),
        ("//*.foo.example.com", "http://bar.example.com", False),
        ("https://example.com/", "https://example.com", True),
        ("localhost:3000", "http://localhost:3000", True),
        ("[::1]:3000", "http://[::1]:3000", True),
        ("müller.example", "https://xn--mller-kva.example", True),
        ("*.Müller.example", "https://www.xn--mller-kva.example", True),
        ("https://münchen.example:81", "https://xn--mnchen-3ya.example:81", True),
    ],
)
def test_an_entry_of_a_list_fixes_what_it_names(entry: str, origin: str, is_allowed: bool):
    """An entry fixes what it names: the host, the scheme with its port, the port."""
    assert allows([entry], origin) is is_allowed
    assert allows(["//other.org", entry], origin) is is_allowed


@pytest.mark.parametrize(
    ("scheme", "host", "origin", "is_allowed"),
    [
        ("ws", "example.com", "http://example.com", True),
        ("ws", "example.com", "http://example.com:80", True),
        ("wss", "example.com", "https://example.com", True),
        ("ws", "example.com:4000", "http://example.com:4000", True),
        ("ws", "example.com", "https://example.com", False),
        ("ws", "example.com", "http://example.com:4000", False),
        ("ws", "example.com", "http://www.example.com", False),
        ("ws", "example.com", "ws://example.com", False),
        ("wss", "example.com", "wss://example.com", False),
    ],
)
def test_the_same_origin(scheme: str, host: str, origin: str, is_allowed: bool):
    """With "conn", scheme, host and port must be those of the request."""
    assert allows("conn", origin, scheme=scheme, headers={"host": host}) is is_allowed


def test_a_function_gets_the_parsed_origin_and_decides_alone():
    """It gets the parsed origin, also one without a host, and decides alone."""
    seen: list[Origin] = []

    def check(origin: Origin) -> bool:
        seen.append(origin)
        return origin.host != "evil.com"

    assert allows(check, "https://example.com")
    assert allows(check, "null")
    assert not allows(check, "http://evil.com:81")
    assert seen == [
        Origin("https", "example.com", 443),
        Origin(None, None, None),
        Origin("http", "evil.com", 81),
    ]


def test_policies_are_separate():
    """Each mount asks its own policy."""
    first, second = OriginPolicy(["first.com"]), OriginPolicy(["second.com"])
    scope = websocket_scope({"origin": "http://first.com"})

    assert first.allows(scope)
    assert not second.allows(scope)


@pytest.mark.parametrize("entry", ["", "//", "https://", "//host:port", "//[::1", None, b"a.com"])
def test_entries_that_are_no_hosts(entry: Any):
    """They are refused where they are given."""
    with pytest.raises(ConfigurationError):
        OriginPolicy([entry])


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("*", "check_origin=False allows every host"),
        ("https://*", "check_origin=False allows every host"),
        ("*:443", "check_origin=False allows every host"),
        ("app-*.example.com", "in front of a domain only"),
        ("*example.com", "in front of a domain only"),
        ("*.*.example.com", "in front of a domain only"),
        ("example.*", "in front of a domain only"),
        ("*://example.com", "has no host"),
        ("null", "can only be allowed by a function"),
        ("example.com/app", "a scheme, a host and a port"),
        ("https://alice@example.com", "a scheme, a host and a port"),
        ("exa mple.com", "characters that none may have"),
        ("example..com", "characters that none may have"),
        ("https://straße.example", "in the form xn--"),
    ],
)
def test_entries_that_would_never_match(entry: str, reason: str):
    """They are refused where they are given, with what to write instead."""
    with pytest.raises(ConfigurationError, match=f"{reason}.*expected example.com"):
        OriginPolicy([entry])


def test_any_collection_of_hosts():
    """A set of hosts is as good as a list; what is none of the forms is refused."""
    assert OriginPolicy({"example.com"}).allows(websocket_scope({"origin": "http://example.com"}))
    wrong: Any
    for wrong in ("example.com", None, 1, iter(["example.com"])):
        with pytest.raises(ConfigurationError, match="hosts must be a list"):
            OriginPolicy(wrong)


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_any_header_is_an_origin_or_refused(origin: str):
    """Whatever the header says, it is no error, and no way past the check."""
    assert not allows(["example.com"], f"http://evil.com/{origin}")
    allows(True, origin)
