"""Why a server can't be reached, in words, and what to do about it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

__all__ = ["connection_reason"]


def connection_reason(error: BaseException) -> str | None:
    """Explain an error of opening a connection; None if there is nothing to say.

    Clients wrap what happened in errors of their own, so the causes are looked at, too.

    Example:
        >>> connection_reason(ConnectionRefusedError(111, "Connection refused"))
        'connection refused: is the server running, and is the port right?'
    """
    for cause in _causes(error):
        if (reason := _reason(cause)) is not None:
            return reason
    return None


def _reason(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate can't be verified ({error.verify_message}): name the authority "
                "that signed it"
            )
        case ssl.SSLError():
            return (
                f"TLS failed ({error.reason}): does the server speak TLS on this port, and does "
                "it accept our certificate?"
            )
        case socket.gaierror():
            return "the host's name can't be resolved: is it right, and does DNS work here?"
        case ConnectionRefusedError():
            return "connection refused: is the server running, and is the port right?"
        case ConnectionResetError() | BrokenPipeError():
            return "the server closed the connection: does it expect TLS?"
        case FileNotFoundError() | PermissionError():
            return f"{error.strerror}: {error.filename or 'the socket'}"
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
            return "there is no way to the host: is the network up, and the address right?"
        case OSError() if "Connect call failed" in str(error):  # by each of several addresses
            return "connection refused: is the server running, and is the port right?"
        case _:
            return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it wraps, and what that was raised from."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            waiting += [*found.args[:1], found.__cause__, found.__context__]
