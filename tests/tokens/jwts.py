"""JWTs made by hand, as an identity provider, or an attacker, would make them.

Nothing here uses the library that verifies them: signatures are made by what is below it.
"""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["Keys", "base64url", "made", "public_jwk", "public_pem", "signature"]


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class Keys:
    """One private key of each type."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed25519 = ed25519.Ed25519PrivateKey.generate()

    def of(self, algorithm: str) -> Any:
        return {"RS256": self.rsa, "ES256": self.ec, "EdDSA": self.ed25519}[algorithm]


def made(header: Any, claims: Any, key: Any, *, algorithm: str | None = None) -> str:
    """A token.

    Args:
        header: As it is, or the name of an algorithm.
        claims: A value, or bytes that are the payload as it is.
        key: Of the type that the algorithm needs.
        algorithm: What it is signed by, if the header says something else.
    """
    header = {"alg": header, "typ": "JWT"} if isinstance(header, str) else header
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signing_input = f"{base64url(json.dumps(header).encode())}.{base64url(payload)}"
    signed = signature(algorithm or header["alg"], signing_input.encode(), key)
    return f"{signing_input}.{base64url(signed)}"


def signature(algorithm: str, message: bytes, key: Any) -> bytes:
    match algorithm:
        case "none":
            return b""
        case "HS256" | "HS384" | "HS512":
            return hmac.digest(key, message, f"sha{algorithm[2:]}")
        case "RS256":
            signed: bytes = key.sign(message, padding.PKCS1v15(), SHA256())
            return signed
        case "ES256":
            r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        case "EdDSA" | "Ed25519":
            signed = key.sign(message)
            return signed
        case _:
            raise AssertionError(algorithm)


def public_pem(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def public_jwk(private: Any, **members: Any) -> dict[str, Any]:
    """The public key as an entry of a key set."""
    public = private.public_key()
    match public:
        case rsa.RSAPublicKey():
            numbers = public.public_numbers()
            return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **members}
        case ec.EllipticCurvePublicKey():
            point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            x, y = point[1 : 1 + len(point) // 2], point[1 + len(point) // 2 :]
            curve = {256: "P-256", 384: "P-384"}[public.key_size]
            return {"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y), **members}
        case _:
            x = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
            return {"kty": "OKP", "crv": "Ed25519", "x": base64url(x), **members}
