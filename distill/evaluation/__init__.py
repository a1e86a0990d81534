"""What a student keeps of its teacher, on a whole corpus, and what it costs.

evaluate.py measures one corpus, suite.py several; results.py holds the figures, verdict.py words them in one line, latency.py says what
one query takes.
"""
