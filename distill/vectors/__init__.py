"""Vectors on disk: the store, vectors of other programs that are imported into one, exact search, faiss indexes.

A format or a database to import is a file beside import_npy.py, and a case in import_formats.py.
"""
