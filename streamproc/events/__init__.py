"""Events: typed, versioned contracts, the envelope they travel in, and how bytes become one."""
