"""A cluster through a Redis or Valkey server."""

from roost.pubsub.redis.adapter import RedisAdapter

__all__ = ["RedisAdapter"]
