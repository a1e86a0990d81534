"""Next month: the student of an earlier job goes on with new queries, and is kept only where it became better."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.encoders.folder import load_encoder
from distill.encoders.students import StudentFromBackbone, StudentSpec
from distill.evaluation.evaluate import evaluate
from distill.evaluation.fields import STUDENT, TEACHER
from distill.evaluation.results import Results
from distill.files.atomic import write_atomically, write_json
from distill.files.progress import log
from distill.generate.filters import RealQueries, split_words
from distill.metrics.ranking import overlap
from distill.metrics.retention import Interval, bootstrap_mean
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.run import Run
from distill.shrinking.replay import choose_shares, make_noise
from distill.shrinking.request import STORE, TEXTS, Job, Request
from distill.shrinking.splits import DEV, Pool
from distill.shrinking.texts import CROPS, NOISE, PIECES, SAMPLE, SUMMARY, JobTexts, open_texts, write_extra
from distill.shrinking.training import make_data, train_in_time
from distill.shrinking.vectors import link_set, list_query_sets
from distill.teachers.embedder import Embedder
from distill.teachers.encode import encode_sets
from distill.texts.collection import Collection, write_split
from distill.texts.sources import QueryFile
from distill.texts.tables import read_queries
from distill.texts.text_source import HOLDOUT, TRAIN, TextSource
from distill.texts.texts import Texts
from distill.training.run_folder import JOB, SEVERAL
from distill.vectors.store import TeacherStore

OWN_SPLITS = (TRAIN, DEV, HOLDOUT)  # of a job; those of the job before it are called train_1, dev_1, holdout_1
LEARNING_RATE = 2e-4  # a fifth of that of a new student, so that it does not forget
MOST_EPOCHS = 5
SEEN = "seen"  # folder of the noise of earlier months, which is not learnt from again
BEFORE = "before"  # the earlier student, as a system beside the new one


@dataclass(frozen=True)
class Change:
    """What became of a student on one set of queries, in overlap@10 with the teacher."""

    split: str
    before: float
    after: float
    difference: Interval

    def __str__(self) -> str:
        value, low, high = self.difference.value, self.difference.low, self.difference.high
        return f"{self.split}: overlap@10 {self.before:.3f} before, {self.after:.3f} now ({value:+.3f} [{low:+.3f}, {high:+.3f}])"


def earlier_name(split: str) -> str:
    """Returns the name of an earlier job's split in the job that continues it.

    >>> earlier_name("train"), earlier_name("train_1"), earlier_name("dev_small")
    ('train_1', 'train_2', 'dev_small')
    """
    parts = re.fullmatch(rf"({'|'.join(OWN_SPLITS)})(?:_(\d+))?", split)
    return split if parts is None else f"{parts[1]}_{int(parts[2] or 0) + 1}"


def earlier_file(name: str) -> str:
    """Returns the name, in the job that continues it, of a file of an earlier job's texts: its training queries become no split.

    >>> earlier_file("queries.train.jsonl"), earlier_file("train_1.jsonl"), earlier_file("queries.dev.jsonl")
    ('train_1.jsonl', 'train_2.jsonl', 'queries.dev_1.jsonl')
    """
    *kind, split, ending = name.split(".")
    renamed = earlier_name(split)
    return f"{renamed}.{ending}" if renamed != split and renamed.startswith(f"{TRAIN}_") else ".".join([*kind, renamed, ending])


def split_parts(source: TextSource, name: str) -> str:
    """Returns a job's own split and those of the jobs before it, joined: `train+train_1`."""
    return "+".join(split for split in source.splits() if re.fullmatch(rf"{name}(_\d+)?", split))


def continue_texts(request: Request, previous: Run, folder: Path) -> JobTexts:
    """Writes the texts of a job that continues another one: the earlier splits under their new names, and the new queries."""
    old = open_texts(previous.folder.data().source, previous.path / TEXTS)
    documents = getattr(old.source, "document_source", None) or (old.source if old.source.has_documents() else None)
    if not folder.exists():
        with write_atomically(folder) as temporary:
            temporary.mkdir(parents=True)
            write_json(temporary / SUMMARY, _write_texts(request, old, previous.path / TEXTS, temporary))
    relevant_from, keep_own = old.source.relevant_from, old.source.keep_own_documents
    return open_texts(Collection(str(folder), documents, relevant_from=relevant_from, keep_own_documents=keep_own), folder)


def _write_texts(request: Request, old: JobTexts, old_folder: Path, folder: Path) -> dict[str, Any]:
    extra = [path for path in old.extra if path.stem != NOISE]
    seen = [*(old_folder / SEEN).glob("*.jsonl"), *(path for path in old.extra if path.stem == NOISE)]
    (folder / SEEN).mkdir()
    for number, path in enumerate(sorted(seen)):
        shutil.copyfile(path, folder / SEEN / f"{number}.jsonl")
    for path in [*old_folder.glob("queries.*.jsonl"), *old_folder.glob("qrels.*.tsv"), *extra]:
        shutil.copyfile(path, folder / earlier_file(path.name))
    if (old_folder / SAMPLE).exists():
        shutil.copyfile(old_folder / SAMPLE, folder / SAMPLE)
    # texts that earlier students learnt from and that are no queries: none that is measured on may have the words of one
    made = [*(path for path in extra if path.stem in (CROPS, PIECES)), *seen]
    cut = RealQueries([QueryFile(str(path)).queries() for path in made], [])
    known = [*(old.source.queries(split) for split in old.source.splits()), *(QueryFile(str(path)).queries() for path in extra)]
    pool, new = Pool(known), read_queries(request.queries, request.text_field, request.id_field)
    unlike_cut = [row for row, query in enumerate(new) if not cut.is_evaluation_query(split_words(query))]
    pool.add(new.subset(np.array(unlike_cut, np.int64)))
    pool.removed += len(new) - len(unlike_cut)
    if pool.removed:
        log.info(f"{pool.removed} of the new queries left out: the earlier job learnt from them or was measured on them")
    parts = {name: part.queries for name, part in pool.divide(needs_dev=True).items()}
    for name, queries in parts.items():
        write_split(folder, name, queries)
    evaluation = [parts[HOLDOUT], parts[DEV], *(old.source.queries(split) for split in old.source.splits() if split != TRAIN)]
    noise = make_noise(parts[TRAIN], old.material or parts[TRAIN], evaluation)
    if noise:  # many new queries need none
        write_extra(folder, NOISE, Texts.from_lists([f"noise-{number}" for number in range(len(noise))], noise, name=NOISE))
    counts = {**{name: len(queries) for name, queries in parts.items()}, NOISE: len(noise)}
    unchanged = {name: old.summary[name] for name in ("documents", CROPS, PIECES) if name in old.summary}
    measured = old.summary["evaluated_on"].split("+")
    evaluated_on = "+".join(split if old.source.qrels(split) is None else earlier_name(split) for split in measured)
    return {**counts, **unchanged, "evaluated_on": evaluated_on, "queries": "given", "removed": pool.removed}


def refuse_other_teacher(embedder: Embedder, previous: Run) -> None:
    """Refuses another teacher than that of the earlier job, before it is asked for a vector."""
    store = TeacherStore(previous.path / STORE)
    if embedder.maker.fingerprint == store.maker.fingerprint:
        return
    if embedder.maker.name != store.maker.name:
        reason = f"{embedder.maker.name} is not the teacher of that job, {store.maker.name}"
        raise BadInput(f"continue: {previous.path}: {reason}: name the same one")
    told = Job((previous.path / STORE).resolve().parent).read_inputs()
    options = [f"{name} {told[name]}" for name in ("prompts", "dimensions", "role_fields") if told.get(name)]
    fix = f"give its {' and '.join(options)} again" if options else "leave prompts, dimensions and role_fields out"
    raise BadInput(f"continue: {previous.path}: {embedder.maker.name} does not embed as for that job: {fix}")


def continue_vectors(embedder: Embedder, texts: JobTexts, previous: Run, folder: Path) -> None:
    """Links the vectors of the earlier job, and embeds the new queries."""
    old_store = (previous.path / STORE).resolve()
    link_set((old_store / "documents").resolve(), folder / "documents")
    for path in sorted(old_store.glob("queries-*")):
        name = earlier_name(path.name.removeprefix("queries-"))
        if name != NOISE:
            link_set(path.resolve(), folder / f"queries-{name}")
    new = [part for part in list_query_sets(texts) if not (folder / part[0]).is_symlink()]
    encode_sets(embedder, new, folder, price=None, budget=1.0)


def continue_training(request: Request, job: Job, texts: JobTexts, previous: Run) -> Run:
    """Trains the earlier student on old and new queries; where it became no better on dev, the earlier student is kept."""
    source, store = texts.source, str(request.out / STORE)
    dev = split_parts(source, DEV)
    before = job.read("before")
    if before is None:
        before = job.write("before", measure_agreement(previous, store, source, dev))
    log.info(f"the earlier student finds {before:.1%} of the teacher's top 10 for old and new dev queries")
    start = str(previous.folder.require_student())
    spec = choose_spec(previous, start)
    prompt = load_encoder(start).settings.prompts.get("query") or "none"
    module = partial(StudentModule, spec, start_from=start, student_prompt=prompt, learning_rate=LEARNING_RATE)
    run = train_in_time(request, job, module, partial(make_data, request, texts, dev, choose_shares(texts)), MOST_EPOCHS)
    if job.read("changes") is not None:  # all of it is done
        return run
    after = job.read("after")
    if after is None:  # measured as the earlier one, not in the number format of the training
        after = job.write("after", measure_agreement(run, store, source, dev))
    if after <= before and job.read("kept") is None:
        log.info(f"it became no better ({after:.1%}): the earlier student is kept")
        keep_earlier_student(run, previous)
        job.write("unlearnt", 1 + previous.folder.unlearnt_jobs)
        job.write("kept", BEFORE)
    return run


def measure_agreement(run: Run, store: str, source: TextSource, split: str) -> float:
    """Returns the mean overlap@10 of a run's student with the teacher."""
    return float(measure_overlap(evaluate(str(run.folder.require_student()), store, source, split), STUDENT).mean())


def choose_spec(previous: Run, start: str) -> StudentSpec:
    """Returns what makes a student of the same kind as the earlier one, whose folder is `start`.

    One of fewer tokens or narrow rows is made of that folder, since other tokens would be chosen from other queries.
    """
    spec = previous.folder.student_spec()
    begins_from = previous.folder.settings()["model"].get("start_from")
    was_pruned = begins_from is not None and getattr(spec, "name", None) == begins_from  # two jobs ago or earlier
    has_own_table = spec.vocabulary is not None or spec.table_width is not None or was_pruned
    return StudentFromBackbone(start) if has_own_table else spec


def keep_earlier_student(run: Run, previous: Run) -> None:
    """Puts the earlier student, and what is known of the queries that it learnt from, in the place of the new one."""
    run.folder.known_queries.unlink(missing_ok=True)
    if previous.folder.known_queries.exists():
        shutil.copyfile(previous.folder.known_queries, run.folder.known_queries)
    with write_atomically(run.folder.student) as temporary:
        shutil.copytree(previous.folder.student, temporary)


def compare_before_and_after(run: Run, texts: JobTexts, previous: Run) -> list[Change]:
    """Measures both students on the held-out queries of each job, which neither was trained on."""
    changes = []
    for split in split_parts(texts.source, HOLDOUT).split("+"):
        baselines = {BEFORE: str(previous.folder.student)}
        results = evaluate(str(run.folder.student), str(run.path / STORE), texts.source, split, baselines=baselines)
        changes.append(measure_change("new queries" if split == HOLDOUT else f"queries of {split}", results))
    return changes


def measure_change(name: str, results: Results) -> Change:
    """Returns the overlap@10 of the earlier and the new student, and the paired interval of their difference."""
    after, before = (measure_overlap(results, system) for system in (STUDENT, BEFORE))  # [Q] each
    return Change(name, float(before.mean()), float(after.mean()), bootstrap_mean((after - before).numpy()))


def measure_overlap(results: Results, system: str) -> Tensor:
    """Returns the overlap@10 [Q] with the teacher on the very queries that were measured; the field `agreement` is of the holdout."""
    teacher, other = (torch.from_numpy(results.rankings[name].rows) for name in (TEACHER, system))
    return overlap(teacher, other, 10)


def require_job(folder: str, trust: bool = False) -> Run:
    """Opens the run of an earlier call of shrink; refuses any other folder."""
    if not Path(folder).is_dir():
        raise BadInput(f"{folder}: no such folder: name the run folder of an earlier call of shrink")
    has_several = (Path(folder) / SEVERAL).exists()  # which `Run` refuses, and names one
    if not has_several and (Path(folder) / JOB).exists() and not (Path(folder) / "student").exists():
        raise BadInput(f"{folder}: this job of shrink has not ended: run its command again, which goes on with it")
    run = Run(folder, trust)
    run.folder.require_student()
    if (run.path / TEXTS).is_symlink() and not (run.path / TEXTS).exists():
        raise BadInput(f"{folder}: its link to the texts of its job leads nowhere: move the whole folder that frontier wrote")
    if not (run.path / TEXTS / SUMMARY).exists():
        raise BadInput(f"{folder}: no run of shrink: continue another run with distill train --model.start_from {folder}")
    return run
