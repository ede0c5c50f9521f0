"""Features: what is known of a payment, its card, and what the card shares with others."""
