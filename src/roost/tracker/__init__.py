"""The tracker without I/O: presences that are tracked here, and the conversation with other nodes.

``protocol`` is the tracker: operations, what is visible, events. ``feed`` has what changed in a
topic. ``replication`` is the conversation between nodes, by the rules of docs/replication.md:
``members`` judges who is up, ``floors`` keeps ids that are over, ``repair`` fetches what is
missing, ``answers`` passes it on, ``view`` shows what others track. ``messages`` are what nodes
say.
"""
