"""Keyed state in Redis: cells and their cache, the key layout, the scripts, the store."""
