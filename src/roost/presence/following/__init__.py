"""How an application is notified of changes: callbacks, watches, last-seen times."""
