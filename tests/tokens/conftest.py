"""What the tests of tokens share."""

from tests.tokens.clock import clock

__all__ = ["clock"]
