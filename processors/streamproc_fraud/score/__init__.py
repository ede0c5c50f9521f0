"""Scores: the scorecard that is shipped and its fit, and the seam for models of one's own."""
