"""Phoenix Channels and Presence for Python: who is here, everywhere, always right."""

from roost import logs as logs  # bounds what is logged
from roost import tokens as tokens
from roost.asgi.drainer import Drainer
from roost.asgi.endpoint import Endpoint
from roost.asgi.mount import Mount, WebSocket
from roost.channels.channel import Channel, ReplyRef
from roost.channels.handlers import event, intercept
from roost.channels.router import Route
from roost.channels.socket import ConnectInfo, Socket
from roost.exceptions import (
    AlreadyTracked,
    ConnectRefused,
    InvalidKey,
    JoinRefused,
    NotTracked,
    ReplyError,
    RoostError,
    TopicFull,
)
from roost.presence.changes import Join, Leave, Snapshot, Update
from roost.presence.notifying.presence_list import PresenceList
from roost.presence.policy import Policy
from roost.presence.presence import Presence
from roost.presence.track_joins import TrackJoins
from roost.presence.tracker import Tracker
from roost.pubsub.pubsub import PubSub
from roost.wire.messages import Broadcast

__all__ = [
    "AlreadyTracked",
    "Broadcast",
    "Channel",
    "ConnectInfo",
    "ConnectRefused",
    "Drainer",
    "Endpoint",
    "InvalidKey",
    "Join",
    "JoinRefused",
    "Leave",
    "Mount",
    "NotTracked",
    "Policy",
    "Presence",
    "PresenceList",
    "PubSub",
    "ReplyError",
    "ReplyRef",
    "RoostError",
    "Route",
    "Snapshot",
    "Socket",
    "TopicFull",
    "TrackJoins",
    "Tracker",
    "Update",
    "WebSocket",
    "event",
    "intercept",
]
