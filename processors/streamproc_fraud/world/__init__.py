"""The reference world: a simulator of card payments with three kinds of fraud, and its exports."""
