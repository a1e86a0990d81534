"""Texts, judgments, vector stores and batches. The sources that a configuration can name are listed here."""

from distill.data.python_docs import PythonDocs
from distill.data.sources import Beir, MsMarcoTsv, QueryFile, TextSource

__all__ = ["Beir", "MsMarcoTsv", "PythonDocs", "QueryFile", "TextSource"]
