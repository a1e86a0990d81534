"""A training from Python, and the run it leaves: student, results, history, report, search."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Trainer, seed_everything

from distill.callbacks.retrieval_eval import RetrievalEval
from distill.callbacks.tracking import Tracking, check_installed
from distill.data.datamodule import RetrievalData
from distill.encoders.encoder import Encoder
from distill.encoders.towers import Towers, load_towers
from distill.evaluation.evaluate import evaluate_run
from distill.evaluation.results import Results
from distill.evaluation.run_texts import embed_corpus
from distill.files.configs import refuse_unknown_choices, to_config
from distill.files.device import best_device
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.texts.text_files import replace_surrogates
from distill.texts.text_source import TextSource
from distill.training.history import History
from distill.training.run_folder import RunFolder
from distill.training.settings import CHECKPOINT_EVERY_N_STEPS, TRAINER_DEFAULTS, make_trainer_settings, quiet_lightning
from distill.training.train import train_student
from distill.training.trainer_options import refuse_trainer_errors
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import VectorStore

if TYPE_CHECKING:
    from distill.export.export import Export
    from distill.report.report import Report
    from distill.vectors.faiss_index import Kind


@dataclass(frozen=True)
class Hit:
    """A document that a search found; title and text are empty where the documents' texts are elsewhere."""

    score: float
    id: str
    title: str
    text: str


class Run:
    """A training run on disk, finished or not.

    Args:
        folder: the run folder, as `distill train` or `distill.train` leaves it.
        trust: whether its files may name code of other packages, which is then imported, and sources that do more than read files.

    Raises:
        BadInput: where the folder is no run folder.
    """

    def __init__(self, folder: str | Path, trust: bool = False):
        self.folder = RunFolder(Path(folder), trust=trust)
        self.folder.settings()

    @property
    def path(self) -> Path:
        return self.folder.path

    @cached_property
    def towers(self) -> Towers:
        """The student as the two towers of a dual encoder, which are the same one where it shares its weights or has only queries."""
        return load_towers(str(self.folder.require_student())).prepare_for(best_device())

    @property
    def student(self) -> Encoder:
        """The student's query encoder: `run.student.encode_query(["..."])` gives vectors [N, D] in the teacher's space."""
        return self.towers.query

    @property
    def history(self) -> History:
        """What training logged, by name: `run.history["dev/overlap@10"].values`, `run.history.plot("train/loss")`."""
        return History.read(self.folder.metrics)

    @property
    def results(self) -> Results:
        """The figures of the last evaluation; call `evaluate` first."""
        path = self.path / "results.json"
        if not path.exists():
            raise BadInput(f"{self.path}: not evaluated yet: call evaluate(), or run distill evaluate {self.path}")
        return Results.load(path)

    @property
    def verdict(self) -> str:
        """One line: `keeps 97.3% [95.9, 98.6] of nDCG@10 at 1/4 of the latency`."""
        return self.results.verdict

    def evaluate(self, split: str = "test", **options: Any) -> Results:
        """Measures the student beside its teacher and keeps the results in the folder; options are those of `evaluate_run`."""
        return evaluate_run(self.path, split, **{"trust": self.folder.trust, **options})

    def report(self, out: str | Path | None = None) -> Report:
        """Writes the report page, report.html in the folder by default."""
        from distill.report.report import report

        return report([str(self.path)], None if out is None else str(out), trust=self.folder.trust)

    def export(self, out: str | Path | None = None, index: Kind | None = None, router: bool = False) -> Export:
        """Writes the student for other programs; see `distill.export.export.export`."""
        from distill.export.export import export

        return export(str(self.path), None if out is None else str(out), index, router, self.folder.trust)

    def search(self, query: str, k: int = 5) -> list[Hit]:
        """The `k` documents that the student finds nearest to a query, best first."""
        query = replace_surrogates(query)  # of a terminal whose bytes are not UTF-8
        if not query.strip():
            raise BadInput("query: an empty text: give the words to search for")
        documents = self._documents
        scores, rows = search(self.student.encode([query], "query"), documents, min(k, len(documents)))
        pairs = zip(scores[0].tolist(), rows[0].tolist(), strict=True)
        return [make_hit(self._source, score, documents.ids[row]) for score, row in pairs]

    @cached_property
    def _data(self) -> RetrievalData:
        return self.folder.data()

    @property
    def _source(self) -> TextSource:
        return self._data.source

    @cached_property
    def _documents(self) -> VectorStore:
        """The vectors that the student searches: the teacher's, or its own."""
        store = self.folder.teacher_store(self._data.store_folder).documents
        check_documents(store, self._source)
        return store if self.folder.inherits_documents else embed_corpus(self.folder, self.towers, self._source)

    def __repr__(self) -> str:
        state = "finished" if self.folder.finished else "unfinished"
        return f"Run({str(self.path)!r}, {state})"


def make_hit(source: TextSource, score: float, document: str) -> Hit:
    """A hit with the document's title and text, where these are here."""
    if not source.has_documents():
        return Hit(score, document, "", "")
    texts = source.documents()
    row = int(texts.ids.rows([document])[0])  # imported vectors may lie in another order than the texts
    return Hit(score, document, texts.title(row), texts[row])


def lightning_defaults() -> dict[str, Any]:
    """Every option of Lightning's Trainer with its default, as the command line keeps them in config.yaml."""
    _, *parameters = inspect.signature(Trainer.__init__).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def train(
    module: StudentModule,
    data: RetrievalData,
    out: str | Path,
    tracking: Tracking = "none",
    checkpoint_every_n_steps: int = CHECKPOINT_EVERY_N_STEPS,
    ckpt_path: str | None = None,
    **trainer: Any,
) -> Run:
    """Trains a student into the embedding space of its teacher, as `distill train` does; called again it goes on with an unfinished run.

    Args:
        module: the student and its losses.
        data: the texts and the teacher's vectors; its seed is that of everything drawn at random from here on.
            Layers that a loss owns are drawn when you make it: call `seed_everything` before.
        out: run folder to write.
        tracking: where to watch the run beside metrics.jsonl: none, csv, tensorboard, wandb, wandb-offline.
        checkpoint_every_n_steps: steps between two writings of the checkpoint that an interrupted run goes on from.
        ckpt_path: a checkpoint to continue from instead of the run's own last one.
        **trainer: options of Lightning's Trainer, e.g. max_epochs=8.

    Returns:
        The run, on every rank; evaluate and report it on one of them. `run.student` is its query encoder, `run.evaluate()` its verdict.

    Raises:
        BadInput: where options, texts and vectors do not fit, before anything is written.
    """
    refuse_unknown_choices(train, {"tracking": tracking})
    quiet_lightning()
    check_installed(tracking)
    seed_everything(data.seed, verbose=False)
    options = {**lightning_defaults(), **TRAINER_DEFAULTS, **trainer}
    folder = RunFolder(Path(out))
    config = {
        "seed_everything": data.seed,
        "trainer": to_config(options),
        "model": to_config(module)["init_args"],
        "data": {name: value for name, value in to_config(data)["init_args"].items() if name != "seed"},
        "out": str(out),
        "ckpt_path": ckpt_path,
        "tracking": tracking,
        "checkpoint_every_n_steps": checkpoint_every_n_steps,
    }
    lightning = _make_trainer(Path(out), options, checkpoint_every_n_steps)
    train_student(lightning, module, data, folder, config, ckpt_path)
    lightning.strategy.barrier()  # until the first rank has written the student
    return Run(out)


def _make_trainer(out: Path, options: dict[str, Any], checkpoint_every_n_steps: int) -> Trainer:
    settings = make_trainer_settings(out, options, checkpoint_every_n_steps, RetrievalEval())
    with refuse_trainer_errors():
        return Trainer(**{**options, **settings})
