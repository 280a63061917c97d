"""The ``roost`` command."""

from roost.cli.main import main

__all__ = ["main"]
