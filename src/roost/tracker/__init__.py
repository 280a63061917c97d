"""The tracker without I/O: local operations, what changed, and what topics are to be told.

Replication joins here later: the messages between nodes, repair and liveness, by the rules of
REPLICATION.md, as further inputs and outputs of ``TrackerProtocol``.
"""
