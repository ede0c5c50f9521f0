"""How good the scores are, by the handbook's protocol, measured through the stream."""
