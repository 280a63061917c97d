"""The workers of one server on one machine, and how they find each other."""

from roost.pubsub.siblings.group import Announcement, SiblingGroup, runtime_directory, sibling_group

__all__ = ["Announcement", "SiblingGroup", "runtime_directory", "sibling_group"]
