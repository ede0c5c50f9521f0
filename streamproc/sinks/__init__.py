"""Where emitted events go: the relay that empties the outbox, and the sinks it delivers to."""
