"""base64url without padding, one text for each value: what a token's parts are written in."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

__all__ = ["Undecodable", "decode_base64url", "encode_base64url"]


class Undecodable(ValueError):
    """A text that ``encode_base64url`` never makes."""


def encode_base64url(data: bytes) -> str:
    """``data`` as text."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """What ``encode_base64url`` made ``text`` of; no other text is taken for the same bytes.

    Raises:
        Undecodable: Of nothing.
    """
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Undecodable(str(error)) from error
    if encode_base64url(data) != text:
        raise Undecodable("not in its one form")
    return data
