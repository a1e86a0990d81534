"""`export`: writes the student for other programs: its folder, ONNX models, a model card, an index, a router to student and teacher."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.towers import Towers, is_available, load_maker
from distill.evaluation.latency import as_served
from distill.export.index import FOLDER, ExportedIndex, add_index
from distill.export.model_card import write_card
from distill.export.serving import Serving, add_serving
from distill.files.atomic import read_json, write_atomically, write_json
from distill.files.links import refuse_links_out
from distill.records import BadInput
from distill.training.run_folder import RunFolder
from distill.vectors.faiss_index import Kind, require_faiss

ROUTER = "router"  # folder in an export
INPUTS = "export.json"  # fingerprints of student and teacher; written last: if it exists, the export is complete


@dataclass(frozen=True)
class Export:
    """The content of an export.

    Attributes:
        folder: folder of the export.
        student: folder of the student, for sentence-transformers.
        router: folder of a model with student and teacher; None unless one was asked for.
        teacher: the model of the document vectors, and their origin.
        teacher_is_here: whether that model could be loaded, so that a router can be had.
        serving: ONNX models of the student and their measurements, or the reason why there are none.
        index: the faiss index; None unless one was asked for.
        is_new: whether this call wrote the export; False if an earlier call exported the same student into this folder.
    """

    folder: Path
    student: Path
    router: Path | None
    teacher: Maker
    teacher_is_here: bool
    serving: Serving
    index: ExportedIndex | None
    is_new: bool


def export(run: str, out: str | None = None, index: Kind | None = None, router: bool = False, trust: bool = False) -> Export:
    """Writes the student as a sentence-transformers folder, ONNX models of it, and a model card.

    `student/` embeds queries. If the extra `onnx` is installed, it contains ONNX models too, and `latency.json` recommends which model
    to serve.

    Args:
        run: run folder of `distill train`.
        out: folder to write; `export` in the run folder by default.
        index: also write a faiss index of the documents into `index/`, tuned and measured against exact search: flat compares a query
            with all documents, ivf and hnsw with some of them. Needs the extra `cpu` or `gpu`; may be added to an earlier export.
        router: also write student and a copy of the teacher as one model into `router/`: `encode_query` is the student,
            `encode_document` the teacher, each with their own prompts. May be added to an earlier export.
        trust: whether its files may name code of other packages, which is then imported, and sources that do more than read files; not
            for a folder from somebody else.

    Raises:
        BadInput: the folder has something else in it, or the teacher's model is not available for `router`.
    """
    if index:
        require_faiss()
    folder = RunFolder(Path(run), trust=trust)
    if not folder.inherits_documents:
        whole = folder.require_student()
        raise BadInput(f"{run}: its student embeds documents itself: {whole} is the whole model, for sentence-transformers too")
    student = load_encoder(str(folder.require_student()))
    maker = folder.teacher_store(folder.settings()["data"]["store"]).maker
    teacher = as_served(load_maker(maker)) if is_available(maker) else None
    if router and teacher is None:
        raise BadInput(f"router: the model {maker.name} is not here, its vectors {maker.describe_origin()}: leave --router out")
    destination = Path(out) if out else folder.path / "export"
    if not trust:
        for name in ("student/onnx", FOLDER, ROUTER):
            refuse_links_out(destination, name)
    inputs = {"student": student.fingerprint(), "teacher": maker.fingerprint}
    serving, is_new = write_export(destination, inputs, folder, student, teacher)
    if router and teacher is not None and not (destination / ROUTER).exists():
        Towers(student, teacher.document.float()).save_pretrained(destination / ROUTER)  # modules of one format, as their user runs them
    exported_index = add_index(student, folder, destination, index) if index else None
    router_folder = destination / ROUTER if (destination / ROUTER).exists() else None
    # the student may have been evaluated or indexed since
    documents = None if teacher is None else teacher.document
    write_card(destination, folder, student, documents, maker.name, has_router=router_folder is not None)
    return Export(destination, destination / "student", router_folder, maker, teacher is not None, serving, exported_index, is_new)


def write_export(
    destination: Path, inputs: dict[str, str], run: RunFolder, student: Encoder, teacher: Towers | None
) -> tuple[Serving, bool]:
    """Writes the student and what serves it, unless an earlier call did.

    Returns:
        The ONNX models, which are added to an earlier export without any; and whether the export is new.
    """
    queries = None if teacher is None else teacher.query
    if holds_export(destination, inputs):
        return add_serving(student, queries, run, destination), False  # the extra may have been installed since
    with write_atomically(Path(os.path.realpath(destination))) as temporary:  # a link to the folder stays one
        temporary.mkdir(parents=True)
        student.save_pretrained(temporary / "student")
        serving = add_serving(student, queries, run, temporary)
        write_json(temporary / INPUTS, inputs)
    return serving, True


def holds_export(folder: Path, inputs: dict[str, str]) -> bool:
    """Tells whether a folder has an export of the same student and teacher; refuses a folder with anything else in it."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / INPUTS).exists():
        raise BadInput(f"{folder}: not an export and not empty: choose another --out")
    if read_json(folder / INPUTS, "earlier export") != inputs:
        raise BadInput(f"{folder}: exported from another student or teacher: choose another --out or delete it")
    return True
