"""A node in a process of its own, for tests that kill it: says its link and then nothing more."""

import asyncio
import sys

from roost.pubsub.nats import NatsAdapter
from roost.pubsub.redis import RedisAdapter
from roost.testing.adapters import Node


async def main(url: str) -> None:
    make = RedisAdapter if url.startswith("redis") else NatsAdapter
    node = Node(make(url, node_name="mallory", namespace="suite"))
    await node.start()
    sys.stdout.write(node.adapter.link + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
