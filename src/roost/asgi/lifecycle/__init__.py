"""From the start of an endpoint to its stop."""
