"""Test channels and presences without a network, and clusters without a clock.

>>> import asyncio
>>> from roost import Channel, Endpoint, Socket, event
>>> class RoomChannel(Channel):
...     @event("ping")
...     def ping(self, payload):
...         return payload
>>> class UserSocket(Socket):
...     channels = {"room:*": RoomChannel}
>>> async def test_ping():
...     async with ChannelCase(Endpoint({"/socket": UserSocket})) as case:
...         client = await case.connect(UserSocket, {"user_id": "alice"})
...         room = await client.join("room:1")
...         ref = room.push("ping", {"hello": "there"})
...         return await room.assert_reply(ref, "ok", {"hello": "there"})
>>> asyncio.run(test_ping())
{'hello': 'there'}

With pytest and pytest-asyncio the fixture ``channel_case`` does the same; it comes with the plugin
that roost installs.

``Simulation`` is a cluster whose network fails as a scenario says, and ``Oracle`` judges it:

>>> sim = Simulation(seed=7, nodes="abc")
>>> oracle = Oracle(sim)
>>> owner = sim.a.track("room:1", "alice")
>>> sim.lose(0.3)
>>> node = sim.restart("b", clock_step=-3600)
>>> sim.advance(20)
>>> sim.calm()
>>> oracle.judge()
>>> sim.b.keys("room:1")
['alice']
"""

from roost.testing.case import ChannelCase, ClientCase, JoinedCase
from roost.testing.matching import matches
from roost.testing.network import Faults
from roost.testing.oracle import BrokenPromise, Oracle
from roost.testing.simulation import Simulation

__all__ = [
    "BrokenPromise",
    "ChannelCase",
    "ClientCase",
    "Faults",
    "JoinedCase",
    "Oracle",
    "Simulation",
    "matches",
]
