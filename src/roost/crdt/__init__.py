"""Pure values: one origin's entries, its numbered changes, and indexes over what is visible.

Nothing here knows a task, a socket, a clock or a random source.
"""
