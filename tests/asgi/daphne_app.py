"""An endpoint for Daphne, which runs in a process of its own: Twisted has its own way of loops."""

from typing import Any

from roost import Channel, Endpoint, Socket, event


class RoomChannel(Channel):
    @event("logout")
    def logout(self, payload: Any) -> None:
        app.broadcast("users:1", "disconnect")


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def id(self) -> str:
        return "users:1"


app = Endpoint({"/socket": UserSocket})
