"""The client: channels and presences of a roost, Phoenix or Supabase server, in asyncio.

``roost.client.blocking`` has the same for scripts and notebooks, without ``await``.
"""

from roost.client.channel import Channel
from roost.client.client import Client
from roost.client.exceptions import (
    AlreadyJoined,
    BufferFull,
    ChannelEnded,
    ClientClosed,
    ClientError,
    ConnectFailed,
    ConnectRejected,
    JoinRejected,
    JoinTimedOut,
    MessagesDropped,
    PushInterrupted,
    PushRejected,
    PushTimedOut,
)
from roost.client.host import Limits
from roost.client.membership import PresenceEvents
from roost.client.messages import Stream
from roost.client.mirror import Change
from roost.client.options import Options
from roost.client.presence import Presence
from roost.wire.messages import Message

__all__ = [
    "AlreadyJoined",
    "BufferFull",
    "Change",
    "Channel",
    "ChannelEnded",
    "Client",
    "ClientClosed",
    "ClientError",
    "ConnectFailed",
    "ConnectRejected",
    "JoinRejected",
    "JoinTimedOut",
    "Limits",
    "Message",
    "MessagesDropped",
    "Options",
    "Presence",
    "PresenceEvents",
    "PushInterrupted",
    "PushRejected",
    "PushTimedOut",
    "Stream",
]
