"""Metas as bytes: encoded once by the origin, with the ref inside.

The same bytes travel to other nodes, into ``presence_state`` and into ``presence_diff``; they are
decoded only when Python code looks at them.
"""

from __future__ import annotations

from typing import Any

from roost.aliases import Meta
from roost.exceptions import PayloadError
from roost.strict_json import JsonEncoder, decode_json

__all__ = ["add_refs", "decode_meta", "encode_meta"]

_REFS = ("phx_ref", "phx_ref_prev")


def encode_meta(encoder: JsonEncoder, meta: Meta) -> bytes:
    """Return ``meta`` as a JSON object without refs; ``add_refs`` completes it.

    Refs that ``meta`` brings along, as the argument of an update function does, are dropped. It is
    a step of its own because the application's ``encode_hook`` runs in it, which may do anything.

    Raises:
        PayloadError: ``meta`` is not a JSON object.
    """
    checked = encoder.check(meta)
    if type(checked) is not dict:
        raise PayloadError(f"a meta must be a JSON object, got {type(meta).__name__}")
    if any(name in checked for name in _REFS):
        checked = {name: value for name, value in checked.items() if name not in _REFS}
    return encoder.dump(checked)


def add_refs(encoded: bytes, ref: str, previous_ref: str | None = None) -> bytes:
    """Return an encoded meta with its ``phx_ref``, and ``phx_ref_prev`` after an update.

    Example:
        >>> add_refs(encode_meta(JsonEncoder(), {"online_at": 1}), "F5")
        b'{"online_at":1,"phx_ref":"F5"}'
    """
    refs = f'"phx_ref":"{ref}"'
    if previous_ref is not None:
        refs += f',"phx_ref_prev":"{previous_ref}"'
    separator = b"" if encoded == b"{}" else b","
    return b"%b%b%b}" % (encoded[:-1], separator, refs.encode())


def decode_meta(meta: bytes) -> dict[str, Any]:
    """Return a fresh dict of an encoded meta, refs included."""
    decoded: dict[str, Any] = decode_json(meta)
    return decoded
