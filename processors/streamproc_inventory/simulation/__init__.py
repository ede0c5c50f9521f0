"""A simulated shop: its events, the disorder in which they arrive, and the stock they lead to."""
