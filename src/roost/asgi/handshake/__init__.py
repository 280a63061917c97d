"""Who may connect: what is read of a request, and the answer."""
