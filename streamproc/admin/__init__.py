"""What an operator does to a group from outside: look, release, move its place in the stream."""
