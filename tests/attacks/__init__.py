"""Attacks on a server, with bystanders who must hardly notice."""
