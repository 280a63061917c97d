"""The two ways to and from a client that is connected, and what bounds both."""
