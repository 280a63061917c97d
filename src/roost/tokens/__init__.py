"""Tokens that say who somebody is: sign and verify them, also Phoenix's and identity providers'.

Which class:

- ``SignedTokens``: of this application, for its own pages and services. The usual one.
- ``EncryptedTokens``: the same, where whoever has the token must not read it.
- ``PhoenixTokens``: those of ``Phoenix.Token``, where a Phoenix application has the same secret.
- ``JWTVerifier``: JWTs of others, with a secret or public key that you have.
- ``JWKSVerifier``: JWTs of an identity provider, with the public keys that it serves at a URL.

All of them raise ``TokenMissing``, ``TokenExpired`` or ``TokenInvalid``, which are ``TokenError``;
uncaught in ``connect``, ``join`` or a handler it is a refusal. What is good is a ``Verified``.
"""

from roost.exceptions import (
    KeysUnavailable,
    TermError,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from roost.tokens.jwt import JWKSVerifier, JWTVerifier
from roost.tokens.own import EncryptedTokens, SignedTokens
from roost.tokens.phoenix import PhoenixTokens
from roost.tokens.terms import Atom
from roost.tokens.verified import Verified

__all__ = [
    "Atom",
    "EncryptedTokens",
    "JWKSVerifier",
    "JWTVerifier",
    "KeysUnavailable",
    "PhoenixTokens",
    "SignedTokens",
    "TermError",
    "TokenError",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "Verified",
]
