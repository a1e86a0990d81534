"""What a job may be told beside teacher, queries and documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from distill.texts.text_source import TextSource


@dataclass(frozen=True, kw_only=True)
class ShrinkOptions:
    """What `shrink` may be told of the texts, the vectors and the teacher.

    Args:
        vectors: the documents' vectors, where they exist: .npy, .parquet, or a flat faiss index. Then a part of the documents is enough.
        ids: text file with the id of each vector, one a line.
        fields: names of the fields of the documents' file, e.g. id=article_id,title=headline,text=body; in Python also a mapping.
        text_field: field of the queries' file that has the query.
        id_field: field of the queries' file that has its id.
        source: instead of documents: any source of texts.
        model: only for a server: its name for the model.
        prompts: put before every text where the teacher's folder does not say so, as e5's: {query: "query: ", document: "passage: "}.
        dimensions: numbers to keep of each of the teacher's vectors, where your index has no more of them (Matryoshka).
        role_fields: only for a server: JSON fields of its requests by role, as for `encode`.
        backbone: encoder that the student begins from where the teacher cannot be cut, as that of a server.
        continue_from: (--continue) run folder of an earlier job, whose student learns the new queries too; the better of the two is kept.
        trust: whether the earlier job's files may name code of other packages, which is then imported; not for one from somebody else.
        trust_remote_code: whether Python code that the teacher's folder brings with it may run; read it before.
        keep_own_documents: whether a document that has a query's id may be found for it, as in MS MARCO, where both are just numbered.
        general: texts of other subjects to cut queries from too: such a file, list or folder, or a data set of the hub, e.g. BeIR/nq.
        tokens_per_batch: padded tokens that pass through the teacher at once, as for `encode`.
    """

    vectors: Any = None
    ids: str | None = None
    fields: dict[str, str] | str | None = None
    text_field: str | None = None
    id_field: str | None = None
    source: TextSource | None = None
    model: str | None = None
    prompts: dict[str, str] | None = None
    dimensions: int | None = None
    role_fields: dict[str, dict[str, Any]] | None = None
    backbone: str | None = None
    continue_from: str | None = None
    trust: bool = False
    trust_remote_code: bool = False
    keep_own_documents: bool = False
    general: Any = None
    tokens_per_batch: int | None = None
