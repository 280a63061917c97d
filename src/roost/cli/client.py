"""``roost client``: who is in a topic and what is said there, live, in a terminal or a pipe."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from roost.client import Channel, Client, MessagesDropped
from roost.exceptions import RoostError
from roost.logs import plain

__all__ = ["client"]

DESCRIPTION: Final = """\
Show who is in a topic and what is said there, and send what is typed: a line is sent as the event
of --event with the payload {FIELD: LINE}, and `/EVENT {"a": 1}` as any other event. At the end of
its input the program leaves; with --watch it reads none, and stays until it is interrupted."""

END: Final = None  # of the input


def client(arguments: Sequence[str]) -> None:
    """Take part in a topic until the end of the input, or until interrupted.

    Args:
        arguments: Of the command line.
    """
    options = _parser().parse_args(arguments)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(_Session(options).run())
    except RoostError as error:
        sys.exit(f"roost: {plain(str(error))}")


class _Session:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._show: Callable[..., None] = _show_json if options.json else _show_text

    async def run(self) -> None:
        options = self._options
        token = options.token or os.environ.get("ROOST_TOKEN")
        async with Client(options.url, params=options.params, token=token, vsn=options.vsn) as here:
            here.on_state(lambda state, reason: self._show("connection", state=state, why=reason))
            channel = here.channel(options.topic, options.join)
            self._announce(channel)
            await channel.join()
            reading = asyncio.create_task(self._read(here, channel))
            saying = asyncio.create_task(self._say(channel))
            tasks = {reading} if options.watch else {reading, saying}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (reading, saying):
                if task not in done:
                    task.cancel()
            for task in done:
                task.result()

    def _announce(self, channel: Channel[dict[str, Any]]) -> None:
        """Show who comes and goes: each key once, however many connections it has."""
        presence = channel.presence
        shown: set[str] = set()

        def show() -> None:
            nonlocal shown
            keys = set(presence)
            if joined := sorted(keys - shown):
                self._show("joined", keys=joined)
            if left := sorted(shown - keys):
                self._show("left", keys=left)
            shown = keys

        presence.on_sync(show)

    async def _read(self, here: Client, channel: Channel[dict[str, Any]]) -> None:
        while True:
            try:
                async for message in channel:
                    self._show("message", event=message.event, payload=message.payload)
                return
            except MessagesDropped as dropped:
                self._show("dropped", count=dropped.count)

    async def _say(self, channel: Channel[dict[str, Any]]) -> None:
        if self._options.watch:
            return
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        # A daemon: it may wait for input for ever.
        threading.Thread(target=_read_lines, args=(loop, lines), daemon=True).start()
        while (line := await lines.get()) is not END:
            try:
                event, payload = self._parse(line)
            except ValueError as error:
                sys.stderr.write(f"roost: not sent: {error}\n")
                continue
            if event:
                channel.push_nowait(event, payload)

    def _parse(self, line: str) -> tuple[str, Mapping[str, Any]]:
        """Event and payload of a line; no event if it is empty."""
        text = line.rstrip("\r\n")
        if not text.startswith("/"):
            return (self._options.event if text else ""), {self._options.field: text}
        event, _, rest = text[1:].partition(" ")
        payload = json.loads(rest or "{}")
        if not isinstance(payload, dict):
            raise ValueError(f"expected a JSON object after /{event}")
        return event, payload


def _read_lines(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str | None]) -> None:
    with suppress(RuntimeError):  # the loop is closed
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, END)


def _show_json(kind: str, **fields: Any) -> None:
    """A JSON object on a line; bytes are shown as hexadecimal digits."""
    print(json.dumps({"type": kind, **fields}, default=bytes.hex), flush=True)


def _show_text(kind: str, **fields: Any) -> None:
    """A line for people; what others wrote can't forge one, or reach the terminal's controls."""
    match kind:
        case "joined":
            line = f"* {', '.join(fields['keys'])} joined"
        case "left":
            line = f"* {', '.join(fields['keys'])} left"
        case "dropped":
            line = f"* {fields['count']} messages were dropped"
        case "connection":
            line = f"* {fields['state']}" + (f": {fields['why']}" if fields["why"] else "")
        case _:
            shown = json.dumps(fields["payload"], ensure_ascii=False, default=bytes.hex)
            line = f"{fields['event']} {shown}"
    print(plain(line), flush=True)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="roost client",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("url", metavar="URL", help="of the socket, such as ws://localhost:4000/socket")
    add("topic", metavar="TOPIC", help="such as room:lobby")
    add("--params", metavar="JSON", type=_object, default={}, help="of the connection")
    add("--join", metavar="JSON", type=_object, default={}, help="of the join")
    add("--token", help="sent in the handshake; ROOST_TOKEN shows in no list of processes")
    add("--event", default="new_msg", help="of the lines that are typed (new_msg)")
    add("--field", default="body", help="of their payload (body)")
    add("--vsn", default="2.0.0", help="the protocol version (2.0.0)")
    add("--json", action="store_true", help="write a JSON object on each line")
    add("--watch", action="store_true", help="read no input")
    return parser
