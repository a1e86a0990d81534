"""`export`: writes the student for other programs: its folder, a router to student and teacher, ONNX models, an index, a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.towers import Towers, load_maker
from distill.export.index import ExportedIndex, add_index
from distill.export.model_card import write_card
from distill.export.serving import Serving, add_serving
from distill.files.atomic import read_json, write_atomically, write_json
from distill.records import BadInput
from distill.training.run_folder import RunFolder
from distill.vectors.faiss_index import Kind, require_faiss

INPUTS = "export.json"  # fingerprints of student and teacher; written last: if it exists, the export is complete


@dataclass(frozen=True)
class Export:
    """The content of an export.

    Attributes:
        folder: folder of the export.
        student: folder of the student, for sentence-transformers.
        router: folder of a model with student and teacher; None if the teacher's model is not available, only its vectors.
        teacher: the model of the document vectors, and their origin.
        serving: ONNX models of the student and their measurements, or the reason why there are none.
        index: the faiss index; None unless one was asked for.
        is_new: whether this call wrote the export; False if an earlier call exported the same student into this folder.
    """

    folder: Path
    student: Path
    router: Path | None
    teacher: Maker
    serving: Serving
    index: ExportedIndex | None
    is_new: bool


def export(run: str, out: str | None = None, index: Kind | None = None) -> Export:
    """Writes the student and a router to student and teacher as sentence-transformers folders, and a model card.

    `student/` embeds queries. If the extra `onnx` is installed, it contains ONNX models too, and `latency.json` recommends which model
    to serve. `router/` embeds queries with the student (`encode_query`) and documents with the teacher (`encode_document`), each with
    their own prompts; it is left out if only the teacher's vectors are available, not its model.

    Args:
        run: run folder of `distill train`.
        out: folder to write; `export` in the run folder by default.
        index: also write a faiss index of the documents into `index/`, tuned and measured against exact search: flat compares a query
            with all documents, ivf and hnsw with some of them. Needs the extra `cpu` or `gpu`; may be added to an earlier export.
    """
    if index:
        require_faiss()
    folder = RunFolder(Path(run))
    if not folder.inherits_documents:
        whole = folder.require_student()
        raise BadInput(f"{run}: its student embeds documents itself: {whole} is the whole model, for sentence-transformers too")
    student = load_encoder(str(folder.require_student()))
    maker = folder.teacher_store(folder.settings()["data"]["store"]).maker
    teacher = load_maker(maker).document if maker.is_loadable else None
    destination = Path(out) if out else folder.path / "export"
    inputs = {"student": student.fingerprint(), "teacher": maker.fingerprint}
    is_new = not holds_export(destination, inputs)
    if is_new:
        with write_atomically(destination) as temporary:
            temporary.mkdir(parents=True)
            student.save_pretrained(temporary / "student")
            if teacher is not None:
                Towers(student, teacher).save_pretrained(temporary / "router")
            serving = add_serving(student, folder, temporary)
            write_card(temporary, folder, student, teacher, maker.name)
            write_json(temporary / INPUTS, inputs)
    else:
        serving = add_serving(student, folder, destination)  # the extra may have been installed since
    exported_index = add_index(student, folder, destination, index) if index else None
    write_card(destination, folder, student, teacher, maker.name)  # the student may have been evaluated or indexed since
    router = destination / "router" if teacher is not None else None
    return Export(destination, destination / "student", router, maker, serving, exported_index, is_new)


def holds_export(folder: Path, inputs: dict[str, str]) -> bool:
    """Tells whether a folder has an export of the same student and teacher; refuses a folder with anything else in it."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / INPUTS).exists():
        raise BadInput(f"{folder}: not an export and not empty: choose another --out")
    if read_json(folder / INPUTS, "earlier export") != inputs:
        raise BadInput(f"{folder}: exported from another student or teacher: choose another --out or delete it")
    return True
