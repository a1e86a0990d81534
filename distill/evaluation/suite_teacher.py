"""The teacher of a suite: its vectors of each collection are made once and kept in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill.encoders.encoder import Encoder
from distill.encoders.maker import Maker
from distill.encoders.towers import Towers
from distill.evaluation.systems import System, open_system
from distill.files.device import best_device, resolve_precision
from distill.records import BadInput, UnknownKind
from distill.teachers.cached import load_store_teacher
from distill.teachers.embedder import Embedder
from distill.teachers.local import LocalTeacher, load_local_teacher
from distill.vectors.store import TeacherStore


def open_suite_teacher(teacher: Any) -> Embedder | System:
    """Opens the model that embeds the collections of a suite.

    Args:
        teacher: a store, whose model is loaded; or any model that `open_system` takes.

    Returns:
        An Embedder where the model can be told from others, so that its vectors can be kept; else a System.

    Raises:
        BadInput: vectors alone, or a store whose model is not here.
    """
    if isinstance(teacher, tuple):
        raise BadInput("suite: the teacher's model embeds the collections: name the model, not vectors")
    if isinstance(teacher, str | Path) and (Path(teacher) / "documents" / "plan.json").exists():
        teacher = TeacherStore(teacher)
    if isinstance(teacher, TeacherStore):
        return load_store_teacher(teacher)
    if isinstance(teacher, Encoder):
        teacher = Towers(teacher)
    if isinstance(teacher, Towers):
        precision = resolve_precision("fp32", best_device().type)
        maker = Maker(type(teacher.query).__name__, teacher.fingerprint(), precision=precision)
        return LocalTeacher(teacher.prepare_for(best_device()), precision, maker)
    if isinstance(teacher, str | Path):
        try:
            return load_local_teacher(str(teacher), "fp32")
        except UnknownKind:
            return open_system(teacher)
    return open_system(teacher)
