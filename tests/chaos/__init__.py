"""Chaos: real nodes, engines and clients, and what goes wrong between them (docs/chaos.md)."""
