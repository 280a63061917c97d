"""Frames: made once, written to any number of connections."""

import pytest

from roost.wire.frame import Frame


def test_a_text_frame_is_text_and_bytes():
    """Servers take text as str or as UTF-8; a frame has both and makes the str once."""
    frame = Frame('["é"]'.encode(), is_text=True)

    assert frame.text == '["é"]'
    assert frame.text is frame.text
    assert len(frame) == 6


def test_frames_are_values():
    """Frames are equal if they are the same on the wire."""
    frame = Frame(b"{}", is_text=True)

    assert frame == Frame(b"{}", is_text=True)
    assert hash(frame) == hash(Frame(b"{}", is_text=True))
    assert frame != Frame(b"{}", is_text=False)
    assert frame != Frame(b"[]", is_text=True)
    assert frame != b"{}"
    assert repr(frame) == "Frame(b'{}', is_text=True)"


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "00"),
        (125, "7d"),
        (126, "7e007e"),
        (65_535, "7effff"),
        (65_536, "7f0000000000010000"),
    ],
)
@pytest.mark.parametrize(("is_text", "opcode"), [(True, "81"), (False, "82")])
def test_the_bytes_on_the_wire(size: int, head: str, is_text: bool, opcode: str):
    """One whole frame, unmasked (RFC 6455, 5.2), made once."""
    frame = Frame(b"x" * size, is_text=is_text)

    assert frame.framed == bytes.fromhex(opcode + head) + b"x" * size
    assert frame.framed is frame.framed
