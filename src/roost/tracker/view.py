"""What is visible here of others: the entries of peers that are up, in the trackers of this node.

Each tracker of a node shows the entries of its own name. Entries of a name that no tracker here has
are held like all others, so that nodes which differ in their trackers still hold the same; they are
shown as soon as there is one.
"""

from __future__ import annotations

from collections.abc import Iterable

from roost.crdt.entry import Entry
from roost.crdt.held import SliceDiff
from roost.tracker.members import Members
from roost.tracker.peer import Peer
from roost.tracker.protocol import TrackerProtocol

__all__ = ["View"]


class View:
    """The trackers of this node, and what they show of others.

    Args:
        members: All others.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._trackers: dict[str, TrackerProtocol] = {}

    @property
    def trackers(self) -> Iterable[TrackerProtocol]:
        return self._trackers.values()

    def add(self, tracker: TrackerProtocol) -> None:
        """A tracker starts: it shows what is held for it."""
        assert tracker.name not in self._trackers
        self._trackers[tracker.name] = tracker
        for peer in self._members:
            if peer.is_shown:
                tracker.change((), [entry for entry in peer.held if entry.tracker == tracker.name])

    def remove(self, tracker: TrackerProtocol) -> None:
        """A tracker ended, if it had begun."""
        self._trackers.pop(tracker.name, None)

    def show(self, peer: Peer) -> None:
        """Show a peer's entries, if it is up."""
        peer.show_at = None
        if peer.is_up and not peer.is_shown:
            peer.is_shown = True
            self._change((), peer.held)

    def hide(self, peer: Peer) -> None:
        """Hide them."""
        peer.show_at = None
        if peer.is_shown:
            peer.is_shown = False
            self._change(peer.held, ())

    def changed(self, peer: Peer, diff: SliceDiff) -> None:
        """What is held of a peer changed."""
        if peer.is_shown:
            self._change(diff.removed, diff.added)

    def _change(self, removed: Iterable[Entry], added: Iterable[Entry]) -> None:
        removed_by, added_by = _by_tracker(removed), _by_tracker(added)
        for name, tracker in self._trackers.items():
            if name in removed_by or name in added_by:
                tracker.change(removed_by.get(name, ()), added_by.get(name, ()))


def _by_tracker(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        group = groups.get(entry.tracker)
        if group is None:
            groups[entry.tracker] = [entry]
        else:
            group.append(entry)
    return groups
