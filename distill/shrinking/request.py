"""What `shrink` was asked for, checked before anything is loaded or written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from distill.files.atomic import read_json, write_json
from distill.files.configs import to_config
from distill.files.fingerprints import file_fingerprint, fingerprint
from distill.files.locks import lock_folder
from distill.records import BadInput
from distill.shrinking.general import CORPUS_FILES, read_general
from distill.shrinking.options import ShrinkOptions
from distill.texts.sources import open_source
from distill.texts.text_source import TextSource
from distill.texts.texts import Texts
from distill.training.run_folder import JOB, first_difference
from distill.vectors.index import Index
from distill.vectors.store import TeacherStore

STATIC: Final = "static"  # the size of a student that is a table of tokens
AUTO: Final = "auto"  # that of a student which is chosen among several
TEXTS, STORE = "texts", "store"  # folders in the job's folder
LOCKED = ".job"  # folder whose lock a running job has; training has that of the job's folder
# what a job that continues another one cannot be told
OF_THE_FIRST_JOB = (
    "documents",
    "judgments",
    "size",
    "vectors",
    "source",
    "backbone",
    "general",
    "keep_own_documents",
)
# files of a folder of texts whose content is part of what was asked for; that of the documents is compared with their vectors
SMALL_FILES = ("queries*", "qrels*.tsv", "qrels/*.tsv", "*.parquet", "*.jsonl")


def is_size(value: Any) -> bool:
    """Whether a value says how large a student is: a number of layers, `static` for none, `auto` for a choice, or None for the default."""
    return value in (None, STATIC, AUTO) or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)


@dataclass(frozen=True)
class Request(ShrinkOptions):
    """The arguments of `shrink`, checked."""

    teacher: Any = None
    queries: Any = None
    documents: Any = None
    judgments: str | None = None
    out: Path = Path("runs/shrunk")
    size: int | Literal["static", "auto"] | None = None
    minutes: float = 10.0

    def __post_init__(self) -> None:
        if self.known_teacher is None and self.continue_from is None:
            raise BadInput("teacher: give a hub name, a folder, a server's address or a store")
        others = [name for name in OF_THE_FIRST_JOB if getattr(self, name) is not None and getattr(self, name) is not False]
        if self.continue_from is not None and (others or self.queries is None):
            reason = f"{others[0]} is that of the earlier job: leave it out" if others else "give the new queries as --queries"
            raise BadInput(f"continue: {self.continue_from}: {reason}")
        refuse_other_kinds("queries", self.queries)
        refuse_other_kinds("general", self.general)
        if not isinstance(self.documents, Index):
            refuse_other_kinds("documents", self.documents)
        if not 0 < self.minutes < float("inf"):
            raise BadInput(f"minutes: {self.minutes}: minutes of training, above 0")
        if not is_size(self.size):
            raise BadInput(f"size: {self.size!r}: the number of layers to keep, 1 or more, static for a table of tokens, or {AUTO}")
        if self.size not in (None, AUTO) and self.backbone:
            raise BadInput("size: of a student of the teacher's own, but the student begins from --backbone as it is: leave one out")
        if self.source is not None and self.documents is not None:
            raise BadInput("source: has documents of its own: leave --documents out")
        if self.source is not None and self.keep_own_documents:
            raise BadInput("keep_own_documents: say it of the source: --source.keep_own_documents true")
        if self.queries is None and self.documents is None and self.source is None:
            raise BadInput("queries: nothing to learn from: give --queries, --documents, or both")
        if self.judgments and self.queries is None:
            raise BadInput("judgments: they judge the queries of --queries: give these too")
        if self.queries is None and (self.text_field or self.id_field):
            raise BadInput("text_field, id_field: they name fields of the file of --queries: give that too, or leave them out")
        if self.fields and self.document_file is None:
            raise BadInput("fields: they name fields of a file of --documents: give one, or leave them out")
        if self.vectors is None and self.ids is not None:
            raise BadInput("ids: they name the rows of --vectors: give both")

    @cached_property
    def index(self) -> Index | None:
        """The vectors of the documents, where they were given: as `vectors`, or as an Index in place of the documents."""
        if isinstance(self.vectors, Index):
            return self.vectors
        if self.vectors is not None:
            return Index(self.vectors, self.ids)
        return self.documents if isinstance(self.documents, Index) else None

    @cached_property
    def store(self) -> TeacherStore | None:
        """The store that was named as the teacher; None where it is a model."""
        return open_teacher_store(self.known_teacher)

    @cached_property
    def known_vectors(self) -> Index | None:
        """The vectors of the documents that exist: those of the index, or of the store that was named as the teacher."""
        if self.index is not None or self.store is None:
            return self.index
        return Index(self.store.documents)

    @property
    def field_names(self) -> dict[str, str]:
        """The fields of the documents' file by what they hold, e.g. {"text": "body"}."""
        if isinstance(self.fields, dict | None):
            return self.fields or {}
        pairs = [part.partition("=") for part in self.fields.split(",")]
        if not all(name and field for name, _, field in pairs):
            raise BadInput(f"fields: {self.fields!r}: say which field is what, e.g. id=article_id,title=headline,text=body")
        return {name.strip(): field.strip() for name, _, field in pairs}

    @property
    def known_teacher(self) -> Any:
        """The teacher that was given, by itself or with the index."""
        if self.teacher is not None:
            return self.teacher
        return None if self.index is None else self.index.teacher

    @cached_property
    def text_source(self) -> TextSource | None:
        """The source of texts that was given, as an object or as a folder in BEIR or MS MARCO layout; None where files were given."""
        if self.source is not None:
            return self.source
        if isinstance(self.documents, str | Path) and Path(self.documents).is_dir() and find_corpus_file(Path(self.documents)) is None:
            return open_source(self.documents, self.keep_own_documents)
        return None

    @property
    def document_file(self) -> Any:
        """The file or the list of the documents; None where they are in a source or nowhere."""
        if self.documents is None or isinstance(self.documents, Index) or self.text_source is not None:
            return None
        if isinstance(self.documents, str | Path) and Path(self.documents).is_dir():
            return find_corpus_file(Path(self.documents))
        return self.documents

    @cached_property
    def general_texts(self) -> Texts | None:
        """The general texts that were given."""
        return None if self.general is None else read_general(self.general)

    def describe(self) -> dict[str, Any]:
        """Returns what determines the result, as plain values; `minutes` does not once the number of epochs is chosen."""
        return {
            "teacher": _describe_teacher(self.known_teacher),
            "index": self.index and self.index.files.fingerprint(),
            "queries": _describe_texts(self.queries),
            "documents": _describe_texts(self.documents if self.document_file is None else self.document_file),
            "judgments": _describe_texts(self.judgments),
            "general": _describe_texts(self.general, large=True),
            "fields": self.field_names,
            "text_field": self.text_field,
            "id_field": self.id_field,
            "source": to_config(self.source),
            "texts of the source": None if self.source is None else _describe_source(self.source),
            "model": self.model,
            "prompts": self.prompts,
            "dimensions": self.dimensions,
            "role_fields": self.role_fields,
            "size": self.size,
            "backbone": self.backbone,
            "own documents": "kept" if self.keep_own_documents else None,
            "continue_from": self.continue_from and str(Path(self.continue_from).resolve()),
        }


def find_corpus_file(folder: Path) -> Path | None:
    """Returns the file of documents in a folder that has no queries beside it; None where it has some, or no such file."""
    if any(folder.glob("queries*")):
        return None
    return next((folder / name for name in CORPUS_FILES if (folder / name).is_file()), None)


def open_teacher_store(teacher: object) -> TeacherStore | None:
    """Opens the store that was named as the teacher; None where it is a model."""
    is_store = isinstance(teacher, str | Path) and (Path(teacher) / "documents").is_dir()
    return TeacherStore(str(teacher)) if is_store else None


def refuse_other_kinds(name: str, given: Any) -> None:
    """Refuses what is neither a file nor a list of texts: a generator, for one, is empty after its first use."""
    if given is not None and (not isinstance(given, str | Path | list | tuple | Texts) or given == ""):
        raise BadInput(f"{name}: {given!r:.40} of type {type(given).__name__}: give a file or a list of texts")


def _describe_teacher(teacher: Any) -> str:
    if not isinstance(teacher, str | Path):
        return type(teacher).__name__
    return str(Path(teacher).resolve()) if Path(teacher).is_dir() else str(teacher)


def _describe_source(source: TextSource) -> str | None:
    """Returns a fingerprint of the small files of a source, and its folder's path where it has none."""
    source.splits()  # a source that writes its folder by itself has done so then: a second call finds what the first one found
    return _describe_texts(source.root)


def _describe_texts(given: Any, large: bool = False) -> str | None:
    """Returns a fingerprint of the content of a file, a list or a folder, whose large files of documents count with `large`; or None."""
    if given is None:
        return None
    if isinstance(given, Texts):
        return given.content_fingerprint
    if not isinstance(given, str | Path):
        return fingerprint(to_config(given)) if isinstance(given, list | tuple) else type(given).__name__
    path = Path(given)
    if path.is_dir():
        patterns = [*SMALL_FILES, *(CORPUS_FILES if large else ())]
        files = sorted({file for pattern in patterns for file in path.glob(pattern) if large or file.name not in CORPUS_FILES})
        return fingerprint([(file.name, file_fingerprint(file)) for file in files])
    if path.is_file():
        return file_fingerprint(path)
    file, _, name = str(given).rpartition(":")  # log.csv:query
    return fingerprint(file_fingerprint(Path(file)), name) if Path(file).is_file() else str(given)


class Job:
    """The record of a job in its folder, `shrink.json`: what was asked for, and what was decided on the way.

    Decisions, such as the number of epochs that fit into the time, are made once, so that a job that was killed goes on to the same
    result.
    """

    def __init__(self, folder: Path):
        self.path = folder / JOB
        self._lock: Any = None  # of the folder, from `claim` until nothing refers to the job any more

    @contextmanager
    def claim(self, inputs: dict[str, Any]) -> Iterator[None]:
        """Records the inputs while the block prepares the texts; where it refuses them, the folder is left as it was found.

        No other process can work on the job until this one ends.

        Raises:
            BadInput: the folder is that of other inputs, of something else, or of a job that is running.
        """
        folder = self.path.parent
        if self.path.exists():
            difference = first_difference(self._read()["inputs"], inputs)
            if difference is not None:
                raise BadInput(f"{folder}: made from other inputs: {difference}: choose another --out or delete it")
        elif folder.exists() and any(path.name[0] != "." for path in folder.iterdir()):
            raise BadInput(f"{folder}: not empty, and no earlier call of shrink wrote it: choose another --out")
        self._lock = lock_folder(folder / LOCKED)
        is_new = not (folder / STORE).exists()
        if not self.path.exists():
            write_json(self.path, {"inputs": inputs, "decisions": {}})
        try:
            yield
        except BadInput:
            if is_new:
                shutil.rmtree(folder / TEXTS, ignore_errors=True)
                self.path.unlink()
                shutil.rmtree(folder / LOCKED, ignore_errors=True)
                with suppress(OSError):  # not empty
                    folder.rmdir()
            raise

    def read_inputs(self) -> dict[str, Any]:
        """Returns what the job was asked for."""
        return dict(self._read()["inputs"])

    def read(self, name: str) -> Any:
        """Returns a decision; None where it is not made yet."""
        return self._read()["decisions"].get(name)

    def write(self, name: str, value: Any) -> Any:
        """Records a decision and returns it."""
        record = self._read()
        record["decisions"][name] = value
        write_json(self.path, record)
        return value

    def _read(self) -> dict[str, Any]:
        record = read_json(self.path, "record of a shrink job")
        if not isinstance(record, dict) or not isinstance(record.get("inputs"), dict) or not isinstance(record.get("decisions"), dict):
            raise BadInput(f"{self.path}: not the record of a shrink job: restore it")
        return record
