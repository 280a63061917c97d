"""An app that tells how it is served."""

import asyncio
import gc
import resource
from typing import Any

from roost import Channel, ConnectInfo, Endpoint, Socket
from roost.asgi.transports.extension import EXTENSION

made: list[Endpoint] = []


class InfoChannel(Channel):
    def join(self, topic: str, params: Any) -> dict[str, Any]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        loop = asyncio.get_running_loop()
        return {
            "is_fast": self.assigns["is_fast"],
            "loop": type(loop).__module__,
            "network": getattr(loop.create_server, "func", loop.create_server).__module__,
            "has_all_files": soft == hard,
            "collects_every": gc.get_threshold()[0],
            "refused": made[-1].health()["dropped"]["server"],
        }


class InfoSocket(Socket):
    channels = {"info": InfoChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        self.assigns["is_fast"] = EXTENSION in info.scope["extensions"]


def make() -> Endpoint:
    """A factory."""
    made.append(Endpoint({"/socket": InfoSocket}, health_path="/health"))
    return made[-1]


app = make()
