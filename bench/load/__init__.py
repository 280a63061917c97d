"""A load generator for servers that speak the Phoenix protocol, and for some that do not.

One process on a core of its own drives raw sockets with ``epoll``: it makes its frames by hand, and
of what it receives it decodes only what a scenario has to understand. What all clients must receive
alike is compared with what is expected, byte by byte and without being decoded (``expected``).

``frames`` is RFC 6455, ``crowd`` the sockets and their loop, ``dialects`` what a join and a message
look like; ``joins``, ``fanout``, ``presence`` and ``memory`` are the scenarios, ``scenarios`` their
list. Every scenario fails if a message is missing, comes twice or in another order. ``shares`` says
how busy the generator and the server were, so that a figure of the generator is never taken for one
of the server.
"""
