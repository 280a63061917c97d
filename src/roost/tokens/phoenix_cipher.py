"""How Phoenix encrypts tokens: the library's ciphers, in Phoenix's form.

Two forms are read, and the first is written:

``XCP.`` (plug_crypto 2, Phoenix 1.7.11 and newer)
    XChaCha20-Poly1305: the 24 bytes of the nonce, the tag, the ciphertext, as one base64url text.
    The library has ChaCha20-Poly1305; what makes it XChaCha20 is a key for each nonce (HChaCha20).

``QTEyOEdDTQ.`` (plug_crypto 1)
    AES-128-GCM under a key of its own, which is wrapped by AES-GCM under the secret's: five parts.

Sources: draft-irtf-cfrg-xchacha-03; what Phoenix does. The text "A128GCM" is authenticated in both,
whatever the cipher.
"""

from __future__ import annotations

import secrets
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from roost.tokens.base64url import Undecodable, decode_base64url, encode_base64url

__all__ = ["decrypt", "encrypt", "hchacha20"]

_PREFIX: Final = "XCP"
_OLD_PREFIX: Final = "QTEyOEdDTQ"  # "A128GCM"
_ASSOCIATED: Final = b"A128GCM"
_NONCE_SIZE: Final = 24
_TAG_SIZE: Final = 16
_CONSTANTS: Final = b"expand 32-byte k"
_eight_words: Final = struct.Struct("<8I")


def encrypt(plaintext: bytes, key: bytes, nonce: bytes | None = None) -> str:
    """``plaintext`` as Phoenix encrypts it.

    Args:
        plaintext: Anything.
        key: 32 bytes.
        nonce: 24 bytes, never used before with this key; by default random ones, of which so many
            exist that they do not come twice.
    """
    nonce = secrets.token_bytes(_NONCE_SIZE) if nonce is None else nonce
    cipher, short_nonce = _xchacha(key, nonce)
    sealed = cipher.encrypt(short_nonce, plaintext, _ASSOCIATED)
    ciphertext, tag = sealed[:-_TAG_SIZE], sealed[-_TAG_SIZE:]
    return f"{_PREFIX}.{encode_base64url(nonce + tag + ciphertext)}"


def decrypt(token: str, key: bytes) -> bytes | None:
    """What ``encrypt`` was given, or None if it was not made with this key, or was changed.

    Args:
        token: ASCII text.
        key: 16, 24 or 32 bytes; what is written now needs 32.
    """
    kind, *parts = token.split(".", 5)  # one more than there may be
    try:
        raw = [decode_base64url(part) for part in parts]
        if kind == _PREFIX and len(raw) == 1 and len(key) == 32:
            return _open(raw[0], key)
        if kind == _OLD_PREFIX and len(raw) == 4:
            return _open_old(raw, key)
    except (Undecodable, InvalidTag):
        pass
    return None


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The key for the ChaCha20 under an XChaCha20: 32 bytes, of 32 and the first 16 of the nonce.

    It is ChaCha20's block function without its last step, the addition of what went in: so it is
    the library's block, and what went in subtracted.
    """
    encryptor = Cipher(ChaCha20(key, nonce), mode=None).encryptor()
    block = encryptor.update(bytes(64))
    came_out = _eight_words.unpack(block[:16] + block[48:])
    went_in = _eight_words.unpack(_CONSTANTS + nonce)
    return _eight_words.pack(
        *[(one - other) & 0xFFFFFFFF for one, other in zip(came_out, went_in, strict=True)]
    )


def _xchacha(key: bytes, nonce: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])), bytes(4) + nonce[16:]


def _open(raw: bytes, key: bytes) -> bytes | None:
    nonce, tag, ciphertext = raw[:24], raw[24:40], raw[40:]
    if len(tag) != _TAG_SIZE:
        return None
    cipher, short_nonce = _xchacha(key, nonce)
    return cipher.decrypt(short_nonce, ciphertext + tag, _ASSOCIATED)


def _open_old(parts: list[bytes], key: bytes) -> bytes | None:
    wrapped_key, nonce, ciphertext, tag = parts
    # A wrapped key is the key, a tag of 16 bytes, a nonce of 12.
    if len(wrapped_key) not in (44, 52, 60) or len(nonce) != 12 or len(tag) != _TAG_SIZE:
        return None
    sealed_key, wrapping_nonce = wrapped_key[:-12], wrapped_key[-12:]
    # Phoenix authenticates here a second secret, of a salt that is empty: what it hands on is "".
    content_key = AESGCM(key).decrypt(wrapping_nonce, sealed_key, b"")
    return AESGCM(content_key).decrypt(nonce, ciphertext + tag, _ASSOCIATED)
