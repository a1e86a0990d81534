"""What `gpu.py` checks and measures, one file a part."""
