"""An app to deploy: who is in a room, on as many nodes as there are.

From the environment it takes CLUSTER, the URL of what is between its nodes (auto), and NODE, the
name of this one (unique by default). Probes ask ``/health``.
"""

from __future__ import annotations

import os
from typing import Any

from roost import Channel, ConnectInfo, Endpoint, Presence, PubSub, Socket


class Online(Presence):
    """Who is in which room."""


online = Online()


class RoomChannel(Channel):
    async def after_join(self) -> None:
        await online.enter(self, self.assigns["name"])


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        self.assigns["name"] = online.check_key(params.get("name", "somebody"))


pubsub = PubSub(os.environ.get("CLUSTER") or "auto", node_name=os.environ.get("NODE") or None)
app = Endpoint({"/socket": UserSocket}, presences=[online], pubsub=pubsub, health_path="/health")
