"""Vectors on disk: the store, vectors of other programs that are imported into one, exact search, faiss indexes.

A format to import is a file beside import_npy.py, with a line in import_formats.py.
"""
