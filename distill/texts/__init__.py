"""Documents, queries and judgments, on disk or on a hub.

A source is a TextSource (text_source.py); those that a configuration can name by their class alone are imported here.
"""

from distill.texts.collection import Collection
from distill.texts.hubs import HfDataset, IrDatasets
from distill.texts.python_docs import PythonDocs
from distill.texts.sources import Beir, MsMarcoTsv, QueryFile
from distill.texts.text_source import TextSource

__all__ = ["Beir", "Collection", "HfDataset", "IrDatasets", "MsMarcoTsv", "PythonDocs", "QueryFile", "TextSource"]
