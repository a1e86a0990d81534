"""The command line: one file a verb, and what makes options out of a signature."""
