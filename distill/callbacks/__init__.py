"""Lightning callbacks: evaluation during training, checkpoints, warnings, and what is logged where.

A tracker is added in tracking.py, a measurement that runs on dev beside retrieval_eval.py, a warning in diagnosis.py.
"""
