"""`streamproc doctor`: looks at all that a worker depends on, before a worker does.

Judgements are pure functions of facts; `examination` gathers the facts.
"""
