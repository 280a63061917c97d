"""How JWTs are signed, and what the keys for that may be given as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

__all__ = ["ASYMMETRIC", "SYMMETRIC", "Algorithm", "KeyLike"]

Algorithm: TypeAlias = Literal["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"]
"""How a JWT is signed. EdDSA is Ed25519, and taken under that name, too (RFC 9864)."""

KeyLike: TypeAlias = str | bytes | Mapping[str, Any]
"""A secret, a public key as PEM, or either as a JSON Web Key."""

SYMMETRIC: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""With a secret → how many bytes it has at least: RFC 7518, section 3.2."""

ASYMMETRIC: Final = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
"""With a public key → its type."""
