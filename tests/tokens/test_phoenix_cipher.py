"""The ciphers of Phoenix: the vectors of their specifications, and ours beside the plain rules."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.tokens.phoenix_cipher import decrypt, encrypt, hchacha20
from tests.laws import LAW
from tests.tokens import phoenix_rules

KEY = bytes(range(0x80, 0xA0))
NONCE = bytes(range(0x40, 0x58))


def test_hchacha20_of_the_draft():
    """draft-irtf-cfrg-xchacha-03, section 2.2.1."""
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    subkey = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"

    assert hchacha20(bytes(range(32)), nonce).hex() == subkey
    assert phoenix_rules.hchacha20(bytes(range(32)), nonce).hex() == subkey


def test_xchacha20_poly1305_of_the_draft():
    """draft-irtf-cfrg-xchacha-03, appendix A.3.1: the plain rules are right."""
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the "
        b"future, sunscreen would be it."
    )
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    ciphertext, tag = phoenix_rules.xchacha20_poly1305(plaintext, KEY, NONCE, associated)

    assert ciphertext.hex() == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f"
        "4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f"
        "76b2383565d3fff921f9664c97637da9768812f615c68b13b52e"
    )
    assert tag.hex() == "c0875924c1c7987947deafd8780acf49"


@LAW
@given(
    st.binary(max_size=200),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=24, max_size=24),
)
def test_ours_is_the_same(plaintext: bytes, key: bytes, nonce: bytes):
    """Any plaintext, key and nonce: the token is what the plain rules make."""
    token = encrypt(plaintext, key, nonce)

    assert token == phoenix_rules.encrypted(plaintext, key, nonce)
    assert decrypt(token, key) == plaintext


def test_no_nonce_comes_twice():
    """Each token has its own, so that equal plaintexts do not look equal."""
    tokens = {encrypt(b"", KEY) for _ in range(100)}

    assert len({token[:36] for token in tokens}) == 100


@pytest.mark.parametrize("prefix", ["XCP", "QTEyOEdDTQ", "XCP.AAAA", "QTEyOEdDTQ.AA.AA", ""])
@pytest.mark.parametrize("size", [0, 1, 11, 12, 16, 23, 24, 39, 40, 41, 44, 60, 100])
def test_parts_of_any_size(prefix: str, size: int):
    """Too few bytes for a nonce, a tag or a key are none of ours, not a crash."""
    part = phoenix_rules.base64url(secrets.token_bytes(size))
    for key in (KEY, KEY[:16]):
        for count in range(6):
            assert decrypt(".".join([prefix, *[part] * count]), key) is None
