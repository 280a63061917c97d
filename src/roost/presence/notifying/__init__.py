"""What subscribers of a topic are sent: states, diffs, counts."""
