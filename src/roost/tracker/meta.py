"""Metas as bytes: encoded once by the origin, with the ref inside.

The same bytes travel to other nodes, into ``presence_state`` and into ``presence_diff``; they are
decoded only when Python code looks at them.
"""

from __future__ import annotations

from typing import Any, Final

from roost.aliases import Meta
from roost.exceptions import PayloadError
from roost.strict_json import JsonEncoder, decode_json

__all__ = ["MAX_META_SIZE", "add_refs", "decode_meta", "encode_meta"]

MAX_META_SIZE: Final = 65_536  # bytes; everybody in the topic gets it, on every change


def encode_meta(encoder: JsonEncoder, meta: Meta) -> bytes:
    """Return ``meta`` as a JSON object without refs; ``add_refs`` completes it.

    Refs that ``meta`` brings along, as the argument of an update function does, are dropped. It is
    a step of its own because the application's ``encode_hook`` runs in it, which may do anything.

    Raises:
        PayloadError: ``meta`` is not a JSON object, or has over 65,536 bytes.
    """
    checked = encoder.check(meta)
    if type(checked) is not dict:
        raise PayloadError(f"a meta must be a JSON object, got {type(meta).__name__}")
    if "phx_ref" in checked or "phx_ref_prev" in checked:
        checked = checked.copy()
        checked.pop("phx_ref", None)
        checked.pop("phx_ref_prev", None)
    encoded = encoder.dump(checked)
    if len(encoded) > MAX_META_SIZE:
        raise PayloadError(
            f"a meta may have {MAX_META_SIZE:,} bytes, got {len(encoded):,}: everybody in the "
            "topic gets it; track an id, and let fetch add the rest"
        )
    return encoded


def add_refs(encoded: bytes, ref: str, previous_ref: str | None = None) -> bytes:
    """Return an encoded meta with its ``phx_ref``, and ``phx_ref_prev`` after an update.

    Example:
        >>> add_refs(encode_meta(JsonEncoder(), {"online_at": 1}), "F5")
        b'{"online_at":1,"phx_ref":"F5"}'
    """
    separator = "" if encoded == b"{}" else ","
    if previous_ref is None:
        refs = f'{separator}"phx_ref":"{ref}"}}'
    else:
        refs = f'{separator}"phx_ref":"{ref}","phx_ref_prev":"{previous_ref}"}}'
    return encoded[:-1] + refs.encode()


def decode_meta(meta: bytes) -> dict[str, Any]:
    """Return a fresh dict of an encoded meta, refs included."""
    decoded: dict[str, Any] = decode_json(meta)
    return decoded
