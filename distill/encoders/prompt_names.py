"""The names under which folders keep prompts; without importing torch, as `StaticEncoder` reads them too."""

DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # where sentence-transformers looks for the prompt of documents
