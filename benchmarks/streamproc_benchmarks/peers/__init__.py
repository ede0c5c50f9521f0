"""What the worker is compared with: bare loops, and the consumers that people run instead."""
