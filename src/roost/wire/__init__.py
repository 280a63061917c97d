"""The wire protocol of Phoenix channels, sans I/O: messages, serializers, connections' rules."""
