"""Metrics of rankings, and the intervals of what is kept.

One more metric is a function in ranking.py, listed in `ranking_metrics`; a class in query_means.py, listed in `judged_metrics`; and a
heading in `COLUMNS` of evaluation/results.py.
"""
