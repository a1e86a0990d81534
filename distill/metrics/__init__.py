"""Metrics of rankings, and the intervals of what is kept. One more metric is a function in ranking.py."""
