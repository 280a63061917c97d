"""Paths of sockets, with segments that are captured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.asgi.mount import PathPattern
from roost.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("pattern", "path", "captured"),
    [
        ("/socket/websocket", "/socket/websocket", {}),
        ("/socket/websocket", "/socket/websocket/", {}),
        ("socket//websocket/", "/socket/websocket", {}),
        ("//websocket", "/websocket", {}),
        ("/", "/", {}),
        ("/", "", {}),
        ("/a/:b/:c", "/a/1/2", {"b": "1", "c": "2"}),
        ("/a/:b/c", "/a/ä b/c", {"b": "ä b"}),
        ("/a/:_b/:c", "/a/1/2", {"c": "2"}),
    ],
)
def test_paths_that_match(pattern: str, path: str, captured: dict[str, str]):
    """Segments count, slashes around them do not; names that begin with _ stay inside."""
    assert PathPattern(pattern).match(path) == captured


@pytest.mark.parametrize(
    "path",
    [
        "/socket",
        "/socket/websocket/more",
        "/Socket/websocket",
        "/websocket",
        "/",
        "/socketwebsocket",
    ],
)
def test_paths_that_do_not(path: str):
    """A path is matched from its first to its last segment."""
    assert PathPattern("/socket/websocket").match(path) is None


@pytest.mark.parametrize("pattern", ["/:/websocket", "/a/:"])
def test_a_segment_without_a_name(pattern: str):
    """It would capture into nothing: that is a slip."""
    with pytest.raises(ConfigurationError, match="segment without a name"):
        PathPattern(pattern)


segments = st.text(st.characters(exclude_characters="/:"), min_size=1, max_size=5)


@given(st.lists(segments, min_size=1, max_size=4))
def test_what_is_captured_is_what_was_there(values: list[str]):
    """A pattern of names captures every path of as many segments."""
    names = [f"name{number}" for number in range(len(values))]
    pattern = PathPattern("/".join(f":{name}" for name in names))

    assert pattern.match("/" + "/".join(values)) == dict(zip(names, values, strict=True))
