"""Whole fleets of workers in virtual time, from a seed: see docs/simulation.md."""
