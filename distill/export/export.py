"""The student for other programs: its folder, the pair of student and teacher, ONNX models, an index, a model card."""

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

INPUTS = "export.json"  # fingerprints of student and teacher; written last, so that its existence means the export is whole


@dataclass(frozen=True)
class Export:
    """What an export holds.

    Attributes:
        folder: where it is.
        student: folder of the student, which sentence-transformers reads.
        router: folder of the pair of student and teacher; None where the teacher's model is not here, only its vectors.
        teacher: the model that wrote the vectors, and where these came from.
        serving: ways to serve the student, or why there is PyTorch alone.
        index: the faiss index; None where none was wanted.
        is_new: whether it was written now; False where the same student was exported into this folder before.
    """

    folder: Path
    student: Path
    router: Path | None
    teacher: Maker
    serving: Serving
    index: ExportedIndex | None
    is_new: bool


def export(run: str, out: str | None = None, index: Kind | None = None) -> Export:
    """Writes the student as a sentence-transformers folder, the pair of student and teacher as another, and a model card.

    `student/` embeds queries; with the extra `onnx` installed it holds ONNX models too, and `latency.json` says which to serve.
    `router/` embeds queries with the student (`encode_query`) and documents with the teacher (`encode_document`), both with
    their own prompts; there is none where the teacher's model is not known, only its vectors.

    Args:
        run: run folder, as `distill train` leaves it.
        out: folder to write; `export` in the run folder by default.
        index: also write a faiss index of the documents into `index/`, tuned and measured against exact search: flat compares with
            every document, ivf and hnsw with a part of them. Needs the extra `cpu` or `gpu`; may be added to an earlier export.
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
    """Whether the same student of the same teacher was exported into a folder before; refuses one that holds anything else."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / INPUTS).exists():
        raise BadInput(f"{folder}: not an export and not empty: choose another --out")
    if read_json(folder / INPUTS, "earlier export") != inputs:
        raise BadInput(f"{folder}: exported from another student or teacher: choose another --out or delete it")
    return True
