"""What is the same for every engine in the middle."""
