"""Many enter a room at once, and leave it at once, while all others watch."""

from __future__ import annotations

from bench.load.crowd import Crowd
from bench.load.joins import AT_ONCE, PATIENCE, settle
from bench.load.rolls import Reader, Roll
from bench.load.shares import Shares, Watch
from bench.load.target import Measured, Target, entry

__all__ = ["storm"]

TOPIC = "room:storm"


def storm(target: Target, count: int) -> Measured:
    """``count`` join a room of ``count``, until all list all; then they go, until that is seen.

    Who joins is connected before. Who goes drops the connection, as a browser's tab does. Messages
    and bytes are those to all clients, counted until nothing more comes.
    """
    reader = Reader()

    def roll_for(number: int) -> Roll:
        return Roll(reader, TOPIC, f"u{number}")

    residents = [roll_for(number) for number in range(count)]
    guests = [roll_for(number) for number in range(count, 2 * count)]
    everybody = residents + guests
    with Crowd(target.url) as crowd:
        crowd.connect_all(
            (entry(target, roll.key, [TOPIC], roll.receive) for roll in residents), at_once=AT_ONCE
        )
        reader.aim(residents, count)
        crowd.run(lambda: reader.reached_count == count, PATIENCE, "the room is not complete")
        clients = crowd.connect_all(entry(target, roll.key, [], roll.receive) for roll in guests)
        settle(crowd)

        reader.aim(everybody, 2 * count)
        with Watch(target.pids) as joining:
            for client in clients:
                client.talk(target.dialect.join(TOPIC))
            crowd.run(lambda: reader.reached_count == 2 * count, PATIENCE, "not all list everybody")
        settle(crowd)
        keys = [roll.key for roll in everybody]
        for roll in everybody:
            roll.check(everybody[0], keys)
        figures = {
            "join: s": joining.shares.duration,
            "messages": float(reader.message_count),
            "MB": reader.size / 1e6,
        }

        reader.aim(residents, count)
        with Watch(target.pids) as leaving:
            crowd.close(clients)
            crowd.run(lambda: reader.reached_count == count, PATIENCE, "not all saw them leave")
        settle(crowd)
        for roll in residents:
            roll.check(residents[0], keys[:count])
        figures |= {
            "leave: s": leaving.shares.duration,
            "messages (leave)": float(reader.message_count),
        }
    return Measured(figures, _busiest(joining.shares, leaving.shares))


def _busiest(*shares: Shares) -> Shares:
    """Those in which the generator came nearest to being the bottleneck."""
    return max(shares, key=lambda each: each.generator)
