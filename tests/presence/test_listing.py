"""The list of a topic: a mapping that can be kept, handed on and turned into what others want."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from roost import PubSub
from roost.presence import Presence, PresenceList
from tests.presence.somebody import somebody


@pytest.fixture
async def people() -> PresenceList:
    """Alice and Bob, in ``room:1``."""
    online = Presence()
    async with online.running(PubSub()):
        for name in ("alice", "bob"):
            somebody(online, name)
        return await online.list("room:1")


async def test_a_deep_copy_may_be_changed(people: PresenceList):
    """It has values of its own; the list itself stays as it is."""
    copied = copy.deepcopy(people)
    copied["alice"]["metas"].clear()

    assert isinstance(copied, PresenceList)
    assert people["alice"]["metas"] != []
    assert copied.encoded == people.encoded
    assert copy.copy(people) is people


async def test_a_list_for_another_process(people: PresenceList):
    """A pickle has all that can be read: who is there, where, and as of when."""
    received = pickle.loads(pickle.dumps(people))

    assert isinstance(received, PresenceList)
    assert received == people
    assert (received.topic, received.version) == (people.topic, people.version)


async def test_a_list_as_json(people: PresenceList):
    """It has its JSON already; a library that wants a dict gets one."""
    assert json.loads(people.encoded) == people
    assert json.loads(json.dumps(dict(people))) == people
    assert json.loads(json.dumps({"people": people}, default=dict)) == {"people": people}
