"""The rules of Phoenix's tokens a second time, slow and plain, to compare ours with.

Nothing here uses what roost uses: PBKDF2 is a loop of HMACs, ChaCha20 and Poly1305 are arithmetic.

Sources: RFC 8018 section 5.2, RFC 8439 sections 2.1 to 2.8, draft-irtf-cfrg-xchacha-03 section 2.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from base64 import urlsafe_b64encode

__all__ = ["chacha20_poly1305", "derived", "encrypted", "hchacha20", "signed", "xchacha20_poly1305"]


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().replace("=", "")


def derived(
    secret: bytes, salt: bytes, *, iterations: int = 1000, length: int = 32, digest: str = "sha256"
) -> bytes:
    """PBKDF2."""

    def mac(message: bytes) -> bytes:
        return hmac.new(secret, message, digest).digest()

    key = b""
    for block in range(1, -(-length // hashlib.new(digest).digest_size) + 1):
        last = mac(salt + struct.pack(">I", block))
        total = int.from_bytes(last, "big")
        for _ in range(iterations - 1):
            last = mac(last)
            total ^= int.from_bytes(last, "big")
        key += total.to_bytes(len(last), "big")
    return key[:length]


def signed(payload: bytes, key: bytes, *, name: str = "HS256", digest: str = "sha256") -> str:
    """A token whose payload is a term."""
    signing_input = f"{base64url(name.encode())}.{base64url(payload)}"
    return f"{signing_input}.{base64url(hmac.new(key, signing_input.encode(), digest).digest())}"


def encrypted(payload: bytes, key: bytes, nonce: bytes) -> str:
    """A token whose plaintext is a term."""
    ciphertext, tag = xchacha20_poly1305(payload, key, nonce, b"A128GCM")
    return f"XCP.{base64url(nonce + tag + ciphertext)}"


def rounds(state: list[int]) -> list[int]:
    """The 20 rounds of ChaCha20."""
    words = list(state)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for one, other, third, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            words[one] = (words[one] + words[other]) % 2**32
            mixed = words[third] ^ words[one]
            words[third] = (mixed << bits | mixed >> (32 - bits)) % 2**32

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for diagonal in range(4):
            quarter(
                diagonal,
                4 + (diagonal + 1) % 4,
                8 + (diagonal + 2) % 4,
                12 + (diagonal + 3) % 4,
            )
    return words


def initial(key: bytes, counter_and_nonce: bytes) -> list[int]:
    return list(struct.unpack("<16I", b"expand 32-byte k" + key + counter_and_nonce))


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    words = rounds(initial(key, nonce))
    return struct.pack("<8I", *words[:4], *words[12:])


def stream(key: bytes, nonce: bytes, first: int, size: int) -> bytes:
    out = b""
    for counter in range(first, first + -(-size // 64)):
        state = initial(key, struct.pack("<I", counter) + nonce)
        mixed = zip(rounds(state), state, strict=True)
        out += struct.pack("<16I", *[(one + other) % 2**32 for one, other in mixed])
    return out[:size]


def poly1305(message: bytes, key: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(message), 16):
        block = message[start : start + 16] + b"\x01"
        total = (total + int.from_bytes(block, "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def chacha20_poly1305(
    plaintext: bytes, key: bytes, nonce: bytes, associated: bytes
) -> tuple[bytes, bytes]:
    pad = stream(key, nonce, 1, len(plaintext))
    ciphertext = bytes(one ^ other for one, other in zip(plaintext, pad, strict=True))

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    sizes = struct.pack("<QQ", len(associated), len(ciphertext))
    message = padded(associated) + padded(ciphertext) + sizes
    return ciphertext, poly1305(message, stream(key, nonce, 0, 32))


def xchacha20_poly1305(
    plaintext: bytes, key: bytes, nonce: bytes, associated: bytes
) -> tuple[bytes, bytes]:
    return chacha20_poly1305(
        plaintext, hchacha20(key, nonce[:16]), bytes(4) + nonce[16:], associated
    )
