"""The servers that are compared: roost on several ASGI servers, a bare server, and peers.

The applications of the peers are as their own documents write them, with compression, access logs
and pings off wherever that is an option, as with roost.
"""
