"""Lightning callbacks: evaluation during training, checkpoints, warnings, and what is logged where.

A tracker is added in tracking.py and closed in training/fit.py; a measurement that runs on dev has a file beside retrieval_eval.py; a
warning is added in diagnosis.py.
"""
