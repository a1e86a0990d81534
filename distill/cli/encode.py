"""`distill encode`: a teacher's vectors of documents and queries, into a store."""

from __future__ import annotations

from typing import Any

from distill.teachers.encode import encode


def encode_with_model(teacher: str, **options: Any) -> object:
    """Writes the teacher's vectors of a corpus and its queries into a store, shard by shard.

    A cross encoder reads pairs: it leaves the scores of each query's candidates, and its vectors where it pools them apart. Run again
    after a kill it goes on with the missing shards. Under torchrun or srun every rank encodes its own shards.

    Args:
        teacher: folder or hub name of the teacher, or the address of a server, whose key is read from OPENAI_API_KEY. One that ends in
            /embed is text-embeddings-inference, /api/embed Ollama, /v2/embed Cohere; any other has OpenAI's embeddings interface, e.g.
            http://localhost:8080/v1.
    """
    return encode(teacher, name=None, **options)  # a function is a teacher in Python alone


def show(store: object) -> None:
    """Nothing: progress and sizes are logged set by set."""


FUNCTION = encode_with_model
