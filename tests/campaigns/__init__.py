"""Long runs against the engine's promises; each has a short version in the test suite."""
