"""Texts, judgments, vector stores and batches. The sources that a configuration can name are listed here."""

from distill.data.hubs import HfDataset, IrDatasets
from distill.data.python_docs import PythonDocs
from distill.data.sources import Beir, MsMarcoTsv, QueryFile, TextSource

__all__ = ["Beir", "HfDataset", "IrDatasets", "MsMarcoTsv", "PythonDocs", "QueryFile", "TextSource"]
