"""Frames: made once, written to any number of connections."""

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
