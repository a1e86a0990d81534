"""Who gives the vectors and scores that a student learns from: models here, servers, functions, stores on disk, several as one.

teacher.py has the protocol of a teacher in training; embedder.py that of a model whose vectors `encode` writes into a store, and
options.py lists the kinds of these.
"""
