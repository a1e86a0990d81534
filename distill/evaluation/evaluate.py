"""`distill evaluate`: how much of the teacher a student keeps, on a whole corpus."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.encoders.batching import encode_texts
from distill.encoders.encoder import Encoder
from distill.encoders.folder import is_available
from distill.encoders.towers import Towers, load_maker, load_towers
from distill.evaluation.latency import measure_query_latency, pytorch_path
from distill.files.atomic import write_atomically, write_json
from distill.files.device import best_device, resolve_precision
from distill.files.fingerprints import fingerprint
from distill.files.provenance import provenance
from distill.metrics.ranking import cosine, overlap, ranking_metrics
from distill.metrics.retention import bootstrap_ratio
from distill.metrics.trec_runs import read_trec, write_trec
from distill.records import BadInput, Ranking
from distill.teachers.encode import LocalTeacher, encode_set
from distill.teachers.open_stored import open_evaluation_queries
from distill.texts.ids import Ids
from distill.texts.sources import HOLDOUT, TextSource
from distill.texts.texts import Texts
from distill.training.run_folder import RunFolder
from distill.vectors.search import search
from distill.vectors.source_documents import check_documents
from distill.vectors.store import TeacherStore, VectorStore

TOP = 100  # documents retrieved for each query
TEACHER, STUDENT = "teacher", "student"


@dataclass
class EvaluationSet:
    """The corpus, one split of its queries, and the teacher's vectors of both."""

    source: TextSource
    store: TeacherStore
    split: str

    def __post_init__(self) -> None:
        self.queries, teacher = open_evaluation_queries(self.source, self.store, self.split)
        for store in teacher.stores:
            store.verify()
        self.query_ids = list(self.queries.ids)
        self.teacher_vectors = torch.from_numpy(teacher.take(np.arange(len(teacher)))).float()  # [Q, D]

    def rank_documents(self, name: str, vectors: Tensor, documents: VectorStore | None = None) -> Ranking:
        """The documents nearest to query vectors [Q, D]: among the teacher's vectors, or those of another store of the same texts."""
        stored = self.store.documents
        scores, rows = (found.cpu().numpy() for found in search(vectors.to(best_device()), documents or stored, min(TOP, len(stored))))
        if documents is not None and stored.texts is None:  # imported vectors may lie in another order than the texts
            used, place = np.unique(rows, return_inverse=True)
            rows = stored.ids.rows([documents.ids[row] for row in used])[place.reshape(rows.shape)]
        return Ranking(self.query_ids, rows, scores, name)

    def judged(self, run: Ranking) -> dict[str, np.ndarray]:
        """Values of each metric for a run, one a judged query; empty where the split is not judged."""
        qrels = self.source.qrels(self.split)
        if qrels is None:
            return {}
        judged = qrels.judged(self.query_ids)
        if not len(judged):
            return {}
        graded = qrels.grade([self.query_ids[query] for query in judged], self.store.documents.ids, run.rows[judged])
        ranked, all_grades = (torch.from_numpy(grades) for grades in graded)
        values = ranking_metrics(ranked, all_grades, self.source.relevant_from)
        return {metric: found.numpy() for metric, found in values.items()}


def evaluate(
    run: str,
    split: str = "test",
    source: TextSource | None = None,
    store: str | None = None,
    baselines: dict[str, str] | None = None,
    out: str | None = None,
) -> None:
    """Measures teacher and student on one corpus: metrics, retention with 95% intervals, agreement, latency.

    Leaves `results.json` and one TREC run file a system, in `runs/`, in the run folder.

    Args:
        run: run folder, as `distill train` leaves it.
        split: judged queries, e.g. test, or dl19+dl20 for two splits together.
        source: other texts than the run was trained on; needs `store` too.
        store: the teacher's store of those texts.
        baselines: more systems by name: a TREC run file, or an encoder folder that writes query vectors into the teacher's space.
        out: where to write the results; `results.json` in the run folder by default. The rankings of results-NAME.json are in `runs-NAME/`.
    """
    folder = RunFolder(Path(run))
    check_names(baselines or {})
    towers = load_towers(str(folder.require_student())).prepare_for(best_device())
    student = towers.query
    bench = EvaluationSet(*_texts_and_store(folder, source, store), split)
    documents = None if folder.inherits_documents else embed_corpus(folder, towers, bench.source)
    vectors = {TEACHER: bench.teacher_vectors, STUDENT: _encoded(student, bench.queries)}
    runs = {TEACHER: bench.rank_documents(TEACHER, vectors[TEACHER]), STUDENT: bench.rank_documents(STUDENT, vectors[STUDENT], documents)}
    for name, path in (baselines or {}).items():
        runs[name] = _baseline(name, path, bench)
    values = {name: bench.judged(found) for name, found in runs.items()}
    results: dict[str, Any] = {
        "dataset": f"{bench.source.name}/{split}",
        "queries": len(bench.queries),
        "judged_queries": len(next(iter(values[TEACHER].values()), [])),
        "systems": {name: {metric: float(v.mean()) for metric, v in metrics.items()} for name, metrics in values.items()},
        "retention": _retention(values),
        "agreement": _agreement(bench, student, documents, vectors[STUDENT], runs),
        "provenance": {
            **provenance(),
            "device": str(best_device()),
            "teacher": bench.store.maker,
            "student": student.fingerprint(),
            "documents": bench.store.documents.texts,
            "texts": bench.queries.fingerprint,
            "training": folder.record(),
        },
    }
    for name, cost in _costs(bench, student).items():
        results["systems"][name] |= cost
    destination = Path(out) if out else folder.path / "results.json"
    write_rankings(runs, baselines or {}, bench.store.documents.ids, destination, split)
    write_json(destination, results)
    print(format_table(results) + f"\n{destination}")


def write_rankings(runs: dict[str, Ranking], files: dict[str, str], corpus: Ids, results: Path, split: str) -> None:
    """TREC run files beside `results`; those of results-NAME.json apart, as a run's own results must keep theirs."""
    folder = "runs" if results.name == "results.json" else f"runs-{results.stem.removeprefix('results-')}"
    for name, found in runs.items():
        path, given = results.parent / folder / split / f"{name}.trec", Path(files.get(name, ""))
        if not given.is_file():
            write_trec(found, corpus.__getitem__, path)
        elif not (path.exists() and path.samefile(given)):
            with write_atomically(path) as temporary:  # as it is: without its documents of elsewhere those below them would move up
                shutil.copyfile(given, temporary)


def embed_corpus(run: RunFolder, towers: Towers, source: TextSource) -> VectorStore:
    """The vectors of the corpus by the student of a run that embeds documents itself; made once, in the run folder."""
    mixed = "bf16" in str(run.record()["inputs"]["trainer"].get("precision"))  # as training measured it
    teacher = LocalTeacher(towers, resolve_precision("auto" if mixed else "fp32", towers.device.type))
    documents, maker = source.documents(), {"name": str(run.student), "fingerprint": towers.fingerprint()}
    folder = run.path / "documents" / fingerprint(documents.fingerprint, maker["fingerprint"])
    if not (folder / "manifest.json").exists():
        encode_set(teacher, documents, "document", folder, {**maker, "precision": teacher.precision})
    return VectorStore(folder)


def check_names(baselines: dict[str, str]) -> None:
    """A system's name is its column, its run's name and its file's name."""
    for name in baselines:
        if name in (TEACHER, STUDENT) or not re.fullmatch(r"[\w.-]+", name):
            raise BadInput(f"baselines: {name!r}: name it with letters, digits, '.', '_' and '-', and not {TEACHER} or {STUDENT}")


def _texts_and_store(run: RunFolder, source: TextSource | None, store: str | None) -> tuple[TextSource, TeacherStore]:
    if (source is None) != (store is None):
        raise BadInput("source and store belong together: give both, or neither to evaluate on what the run was trained on")
    if source is None or store is None:
        data = run.data()
        source, store = data.source, data.store_folder
    opened = run.teacher_store(store)
    opened.documents.verify()
    check_documents(opened.documents, source)
    return source, opened


def _encoded(encoder: Encoder, queries: Texts) -> Tensor:
    return torch.from_numpy(encode_texts(encoder, list(queries), "query"))


def _baseline(name: str, path: str, bench: EvaluationSet) -> Ranking:
    if not Path(path).is_file():
        return bench.rank_documents(name, _encoded(load_towers(path).prepare_for(best_device()).query, bench.queries))
    lines = read_trec(Path(path))
    return Ranking(bench.query_ids, *rows_and_scores([lines.get(query, []) for query in bench.query_ids], bench.store.documents.ids), name)


def rows_and_scores(found: list[list[tuple[str, float]]], corpus: Ids) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores [Q, TOP] of rankings read from a run file; a document outside the corpus keeps its rank, as row -1."""
    rows, scores = np.full((len(found), TOP), -1), np.full((len(found), TOP), -np.inf, np.float32)
    for query, ranking in enumerate(those[:TOP] for those in found):
        rows[query, : len(ranking)] = corpus.rows([document for document, _ in ranking])
        scores[query, : len(ranking)] = [score for _, score in ranking]
    return rows, scores


def _retention(values: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """Student over teacher for each metric the teacher scores on, with the paired 95% interval."""
    teacher, student = values[TEACHER], values[STUDENT]
    intervals = {metric: bootstrap_ratio(student[metric], teacher[metric]) for metric in teacher if teacher[metric].any()}
    return {metric: {"value": found.value, "ci95": [found.low, found.high]} for metric, found in intervals.items()}


def _agreement(
    bench: EvaluationSet, student: Encoder, documents: VectorStore | None, student_vectors: Tensor, runs: dict[str, Ranking]
) -> dict[str, Any]:
    """Student against teacher without labels, on the queries held out of training where there are any."""
    if HOLDOUT not in bench.source.splits() or bench.split == HOLDOUT:
        teacher_vectors, teacher_run, student_run, split = bench.teacher_vectors, runs[TEACHER], runs[STUDENT], bench.split
    else:
        held = EvaluationSet(bench.source, bench.store, HOLDOUT)
        teacher_vectors, student_vectors, split = held.teacher_vectors, _encoded(student, held.queries), HOLDOUT
        teacher_run, student_run = held.rank_documents(TEACHER, teacher_vectors), held.rank_documents(STUDENT, student_vectors, documents)
    return {
        "overlap@10": float(overlap(torch.from_numpy(teacher_run.rows), torch.from_numpy(student_run.rows), 10).mean()),
        "cosine": float(cosine(teacher_vectors, student_vectors).mean()),
        "split": split,
        "queries": len(teacher_vectors),
    }


def _costs(bench: EvaluationSet, student: Encoder) -> dict[str, dict[str, Any]]:
    """Parameters and batch-1 latency; the teacher's only where its model is at hand."""
    maker, encoders = bench.store.maker, {STUDENT: student}
    if is_available(maker):
        encoders[TEACHER] = load_maker(maker).query.prepare_for(best_device())
    else:
        print(f"{maker['name']}: the teacher's model is not here: no size and latency of it")
    queries = bench.queries.read(np.arange(min(200, len(bench.queries))))
    latency = measure_query_latency({name: pytorch_path(encoder) for name, encoder in encoders.items()}, queries)
    return {name: {"params": encoder.parameter_count(), **latency[name]} for name, encoder in encoders.items()}


# field of a system: (heading, how it is written)
COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "mrr@10": ("MRR@10", "{:.4f}".format),
    "ndcg@10": ("nDCG@10", "{:.4f}".format),
    "recall@100": ("Recall@100", "{:.4f}".format),
    "params": ("parameters", lambda count: f"{count / 1e6:.1f}M"),
    "query_latency_ms_p50": ("ms a query", "{:.2f}".format),
}


def format_table(results: dict[str, Any]) -> str:
    """What the terminal shows: a line a system, then what the student keeps."""
    lines = [
        f"\n{results['dataset']}, {results['queries']} queries",
        " " * 12 + "".join(f"{heading:>12}" for heading, _ in COLUMNS.values()),
    ]
    for name, system in results["systems"].items():
        cells = (show(system[column]) if column in system else "-" for column, (_, show) in COLUMNS.items())
        lines.append(f"{name:<12}" + "".join(f"{cell:>12}" for cell in cells))
    lines += [
        f"the student keeps {kept['value']:.1%} [{kept['ci95'][0]:.1%}, {kept['ci95'][1]:.1%}] of the teacher's {COLUMNS[metric][0]}"
        for metric, kept in results["retention"].items()
    ]
    agreement = results["agreement"]
    lines.append(
        f"agreement on {agreement['queries']} {agreement['split']} queries: overlap@10 {agreement['overlap@10']:.3f}, "
        f"cosine {agreement['cosine']:.3f}"
    )
    return "\n".join(lines)
