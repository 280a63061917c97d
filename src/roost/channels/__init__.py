"""Sockets and channels: the part that applications write, and what runs it."""

from roost.channels.channel import Channel, ReplyRef
from roost.channels.handlers import event, intercept
from roost.channels.router import Route
from roost.channels.socket import ConnectInfo, Socket

__all__ = ["Channel", "ConnectInfo", "ReplyRef", "Route", "Socket", "event", "intercept"]
