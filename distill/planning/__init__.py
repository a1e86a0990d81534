"""What a job will cost before it runs: time, disk and memory of each of its steps.

amounts.py reads how many texts there are, measuring.py times each kind of work on this machine, rates.py reads what was timed on a GPU
elsewhere, steps.py does the arithmetic, plan.py puts them together.
"""
