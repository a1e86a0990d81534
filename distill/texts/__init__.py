"""Documents, queries and judgments, on disk or on a hub.

A source is a TextSource (text_source.py). Those that a configuration can name by their class alone are imported here, and listed in
`READERS` of described_source.py, so that a run folder is opened without --trust.
"""

from distill.texts.collection import Collection
from distill.texts.hubs import HfDataset, IrDatasets
from distill.texts.python_docs import PythonDocs
from distill.texts.sources import Beir, MsMarcoTsv, QueryFile
from distill.texts.text_source import TextSource

__all__ = ["Beir", "Collection", "HfDataset", "IrDatasets", "MsMarcoTsv", "PythonDocs", "QueryFile", "TextSource"]
