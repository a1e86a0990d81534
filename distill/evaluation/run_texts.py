"""The texts and vectors that the student of a run folder is measured on."""

from __future__ import annotations

from distill.encoders.maker import Maker
from distill.encoders.towers import Towers
from distill.files.device import resolve_precision
from distill.files.fingerprints import fingerprint
from distill.records import BadInput
from distill.teachers.embedder import encode_set
from distill.teachers.local import LocalTeacher
from distill.texts.text_source import TextSource
from distill.training.run_folder import RunFolder
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore, VectorStore


def open_run_texts(run: RunFolder, source: TextSource | None, store: str | None) -> tuple[TextSource, TeacherStore]:
    """Opens the texts and the store that a run was trained on, or others, which belong together."""
    if (source is None) != (store is None):
        raise BadInput("source and store belong together: give both, or neither to evaluate on what the run was trained on")
    if source is None or store is None:
        data = run.data()
        source, store = data.source, data.store_folder
    opened = run.teacher_store(store)
    opened.documents.verify()
    check_documents(opened.documents, source)
    return source, opened


def embed_corpus(run: RunFolder, towers: Towers, source: TextSource) -> VectorStore:
    """The vectors of the corpus by the student of a run that embeds documents itself; made once, in the run folder."""
    mixed = "bf16" in str(run.record()["inputs"]["trainer"].get("precision"))  # as training measured it
    precision = resolve_precision("auto" if mixed else "fp32", towers.device.type)
    maker = Maker(str(run.student), towers.fingerprint(), precision=precision)
    documents = source.documents()
    folder = run.path / "documents" / fingerprint(documents.fingerprint, maker.fingerprint, precision)
    if not (folder / "manifest.json").exists():
        encode_set(LocalTeacher(towers, precision, maker), documents, "document", folder)
    store = VectorStore(folder)
    store.verify()
    return store
