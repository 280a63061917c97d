"""Limits of the system."""

from __future__ import annotations

__all__ = ["raise_file_limit"]


def raise_file_limit() -> int | None:
    """Allow this process, and those it starts, as many open files as the system lets it.

    Each connection is one. Returns the limit; None where there is no such thing (Windows).
    """
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS says "unlimited", and means less
        return soft
    return hard
