"""What an application is told of changes: callbacks, watches, times."""
