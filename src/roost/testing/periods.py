"""How long each promise of a cluster may take."""

from __future__ import annotations

from roost.tracker import repair
from roost.tracker.options import ReplicationOptions

__all__ = ["Periods"]


class Periods:
    """How long each promise may take, in seconds.

    Args:
        options: Of all nodes.
        delay: The longest time that a message takes, those sent before included.

    Attributes:
        change: Until all nodes show a change, without faults.
        goodbye: Until the presences of a node that said goodbye are gone.
        hint: Until those of a node whose links were seen to die are gone.
        repair: Until no presence of a live node is missing after faults, and none that ended there
            is shown.
        silence: Until those of a node that is gone without a word are gone.
        rename: Until nodes of one name have found new ones.
        quiet: After that, until all know that they agree, and send heartbeats only.
    """

    def __init__(self, options: ReplicationOptions, delay: float) -> None:
        heartbeat = options.heartbeat_period
        self.change = options.broadcast_period + delay
        self.goodbye = delay
        self.hint = options.probe_grace + delay
        # A heartbeat shows what is missing, or brings the node up, and one more shows it in any
        # case. Whoever was asked while messages were lost is given up only after its back-off.
        backoff = options.max_request_timeout * (1 + repair.JITTER)
        transfer = options.repair_delay + backoff + 4 * delay
        self.repair = delay + 2 * heartbeat + transfer
        self.silence = delay + options.down_period + heartbeat
        # Each of a pair hears of the other by its heartbeat, and takes a new id at most twice
        # before it takes a new name.
        self.rename = 3 * (heartbeat + 2 * delay)
        self.quiet = 2 * heartbeat + delay
