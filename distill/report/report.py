"""`distill report`: one page that says how much of the teacher a student keeps, where it loses, and what it costs."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.encoders.maker import Maker
from distill.evaluation.results import STUDENT, TEACHER
from distill.files.atomic import refuse_unreadable, write_atomically
from distill.metrics.retention import bootstrap_mean, bootstrap_ratio, randomisation_test
from distill.records import BadInput
from distill.report.evidence import JudgedRun, RunEvidence
from distill.report.figures import NAMES, comparison_charts, read_retention, run_charts
from distill.report.page import render_page

SHOWN = 50  # losers, and as many winners
LISTED = 5  # documents of each system beside one another
Cell = tuple[str, str]  # what is said, and in small letters what goes with it


def report(runs: list[str], out: str | None = None, hour_price: float | None = None) -> None:
    """Writes one HTML file about a run, or one that compares several; it needs no network and opens from disk.

    Args:
        runs: run folders that `distill evaluate` has measured.
        out: file to write; by default report.html in the run folder, of several runs in the current one.
        hour_price: what an hour of the machine that was measured costs, for the cost of a million queries.
    """
    with refuse_unreadable("run folders that distill evaluate has measured", ", ".join(runs)):
        evidence = [RunEvidence(run) for run in runs]
        if len({run.name for run in evidence}) < len(evidence):
            raise BadInput(f"runs: {', '.join(runs)}: two of them have the same name: rename a folder")
        content = _of_one(evidence[0], hour_price) if len(evidence) == 1 else _of_several(evidence)
        page = render_page(**content, runs=[_origin(run) for run in evidence])
    path = Path(out) if out else (evidence[0].folder.path if len(evidence) == 1 else Path()) / "report.html"
    with write_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    print(f"{content['verdict']}\n{path}")


def format_verdict(run: RunEvidence) -> str:
    """`keeps 97.3% [95.9, 98.6] of nDCG@10 at 1/4 of the latency`."""
    metric = main_metric(run)
    if metric in run.results["retention"]:
        said = f"keeps {_percent(run, metric)} of {NAMES[metric]}"
    else:
        said = f"finds {run.results['agreement']['overlap@10']:.1%} of the teacher's top 10"
    teacher, student = (run.results["systems"][name].get("query_latency_ms_p50") for name in (TEACHER, STUDENT))
    if teacher is None or student is None:
        return f"{run.name} {said}"
    times = teacher / student
    return f"{run.name} {said} at " + (f"1/{times:.2g} of the latency" if times >= 1.05 else f"{1 / times:.2g} times the latency")


def main_metric(run: RunEvidence) -> str:
    return "ndcg@10" if "ndcg@10" in run.results["retention"] else "overlap@10"


def _percent(run: RunEvidence, metric: str) -> str:
    found = read_retention(run, metric)
    return f"{found.value:.1%} [{found.low * 100:.1f}, {found.high * 100:.1f}]"


def _of_one(run: RunEvidence, hour_price: float | None) -> dict[str, Any]:
    drawn = run_charts(run)  # first: what is missing is known after it
    notes = run.warnings + [f"Left out, as it could not be read: {reason}" for reason in run.missing]
    tables = [table for table in (_metrics(run), _costs(run, hour_price)) if table["rows"]]
    subtitle = f"{run.results['dataset']}, {run.results['queries']} queries"
    said = {"title": f"distill: {run.name}", "subtitle": subtitle, "verdict": format_verdict(run), "notes": notes}
    return {**said, "tables": tables, "charts": drawn, "ranked": _ranked(run)}


def _metrics(run: RunEvidence) -> dict[str, Any]:
    """A row a metric: each system with its interval, what the student keeps, and whether chance explains the difference."""
    queries, systems = run.queries, run.results["systems"]
    rows = []
    for metric in [name for name in systems[TEACHER] if name in NAMES and "@" in name]:
        cells = [(NAMES[metric], "")]
        for name in systems:
            value = systems[name].get(metric)
            spread = "" if queries is None else _spread(queries.values[name][metric])
            cells.append(("-" if value is None else f"{value:.4f}", spread))
        p = "-"
        if queries is not None:
            p = f"{randomisation_test(queries.values[STUDENT][metric], queries.values[TEACHER][metric]):.4f}"
        rows.append([*cells, (_percent(run, metric) if metric in run.results["retention"] else "-", ""), (p, "")])
    agreement = run.results["agreement"]
    note = (
        f"Brackets: 95% intervals over queries; what is kept is paired. p: randomisation test of student against teacher. On "
        f"{agreement['queries']} {agreement['split']} queries: overlap@10 {agreement['overlap@10']:.3f}, cosine {agreement['cosine']:.3f}."
    )
    return {"title": "Quality", "heads": ["", *systems, "kept", "p"], "rows": rows, "note": note}


def _spread(values: np.ndarray) -> str:
    found = bootstrap_mean(values, resamples=2000)
    return f"[{found.low:.3f}, {found.high:.3f}]"


def _costs(run: RunEvidence, hour_price: float | None) -> dict[str, Any]:
    """Of a million queries, one after the other on the machine that was measured."""
    times = {name: system["query_latency_ms_p50"] for name, system in run.results["systems"].items() if "query_latency_ms_p50" in system}
    times |= {f"student, {name}, 1 core": path["query_latency_ms_p50"] for name, path in run.serving["paths"].items()}
    rows = []
    for name, milliseconds in times.items():
        hours = milliseconds / 3.6
        price = [] if hour_price is None else [(f"{hours * hour_price:.2f}", "")]
        rows.append([(name, ""), (f"{milliseconds:.2f}", ""), (f"{hours:.2f}", ""), *price])
    heads = ["", "ms a query", "hours", *(["price"] if hour_price is not None else [])]
    where = run.results["provenance"].get("processor") or "the machine that was measured"
    return {"title": "Cost of a million queries", "heads": heads, "rows": rows, "note": f"One after the other, on {where}."}


def _ranked(run: RunEvidence) -> dict[str, Any] | None:
    """The queries on which student and teacher differ most, with what each found."""
    queries = run.queries
    if queries is None:
        return None
    student = queries.values[STUDENT][queries.metric]
    teacher = queries.values[TEACHER][queries.metric] if TEACHER in queries.values else np.ones_like(student)
    order = np.argsort(student - teacher, kind="stable")
    chosen = [query for query in order[:SHOWN] if student[query] < teacher[query]]
    chosen += [query for query in order[::-1][:SHOWN] if student[query] > teacher[query]]
    rows = [_query(run, queries, query, float(teacher[query]), float(student[query])) for query in chosen]
    what = "Grades judged are in boxes; " if queries.grades else ""
    note = f"Up to {SHOWN} of each by {NAMES[queries.metric]}. {what}documents that both list are coloured."
    return {"heads": ["query", TEACHER, STUDENT, "difference"], "queries": rows, "note": note}


def _query(run: RunEvidence, queries: JudgedRun, query: int, teacher: float, student: float) -> dict[str, Any]:
    id_ = queries.ids[query]
    tops = {name: queries.rankings[name].get(id_, [])[:LISTED] for name in (TEACHER, STUDENT)}
    shared = set.intersection(*({document for document, _ in top} for top in tops.values()))
    cells = [{"value": queries.texts[query], "shown": queries.texts[query]}]
    cells += [{"value": f"{value:.6f}", "shown": f"{value:.3f}"} for value in (teacher, student)]
    cells.append({"value": f"{student - teacher:.6f}", "shown": f"{student - teacher:+.3f}"})
    lists = [(name, [_document(run, queries, id_, *found, found[0] in shared) for found in top]) for name, top in tops.items()]
    return {"kind": "loser" if student < teacher else "winner", "cells": cells, "lists": lists}


def _document(run: RunEvidence, queries: JudgedRun, query: str, document: str, score: float, shared: bool) -> dict[str, Any]:
    title, text = document, ""
    if run.source is not None and run.source.has_documents():
        texts = run.source.documents()
        row = int(texts.ids.rows([document])[0])
        if row >= 0:
            title, text = texts.title(row) or document, textwrap.shorten(texts[row], 160, placeholder=" ...")
    grade = queries.grades[query].get(document) if query in queries.grades else None
    return {"name": title, "text": text, "score": f"{score:.3f}", "grade": grade, "shared": shared}


def _of_several(runs: Sequence[RunEvidence]) -> dict[str, Any]:
    first = runs[0]
    for run in runs[1:]:
        if (run.results["dataset"], run.results["provenance"].get("texts")) != (
            first.results["dataset"],
            first.results["provenance"].get("texts"),
        ):
            raise BadInput(f"{run.folder.path}: measured on other queries than {first.folder.path}: run distill evaluate on the same split")
    metric = main_metric(first)
    best = max(runs, key=lambda run: read_retention(run, metric).value)
    heads = ["run", f"kept {NAMES[metric]}", "overlap@10", "parameters", "ms a query", f"kept by {first.name}, this run = 100%", "p"]
    table = {"title": "Runs", "heads": heads, "rows": [_row(run, first, metric) for run in runs], "note": ""}
    table["note"] = f"Brackets: 95% intervals, paired over queries. p: randomisation test against {first.name}."
    subtitle = f"{len(runs)} runs on {first.results['dataset']}, {first.results['queries']} queries"
    drawn = comparison_charts(runs, metric)
    notes = [f"{run.name}: {warning}" for run in runs for warning in run.warnings]
    notes += [f"Left out, as it could not be read: {reason}" for run in runs for reason in run.missing]
    said = {"title": f"distill: {len(runs)} runs", "subtitle": subtitle, "verdict": format_verdict(best), "notes": notes}
    return {**said, "tables": [table], "charts": drawn, "ranked": None}


def _row(run: RunEvidence, first: RunEvidence, metric: str) -> list[Cell]:
    student, value = run.results["systems"][STUDENT], read_retention(run, metric)
    ours, theirs = ((found.queries.values[STUDENT][metric] if found.queries else None) for found in (run, first))
    against, p = "-", "-"
    if run is not first and ours is not None and theirs is not None and ours.any():
        against, p = f"{bootstrap_ratio(theirs, ours).value:.1%}", f"{randomisation_test(ours, theirs):.4f}"
    return [
        (run.name, ""),
        (f"{value.value:.1%}", "" if value.low == value.high else f"[{value.low * 100:.1f}, {value.high * 100:.1f}]"),
        (f"{run.results['agreement']['overlap@10']:.3f}", ""),
        (f"{student['params'] / 1e6:.1f}M" if "params" in student else "-", ""),
        (f"{student['query_latency_ms_p50']:.2f}" if "query_latency_ms_p50" in student else "-", ""),
        (against, ""),
        (p, ""),
    ]


def _origin(run: RunEvidence) -> dict[str, Any]:
    """Provenance as pairs, the commands that made it, its configuration."""
    trained, measured = run.record["provenance"], run.results["provenance"]
    facts = {
        "teacher": f"{measured['teacher']['name']} ({measured['teacher']['fingerprint']})",
        "student": measured["student"],
        "texts": f"documents {measured.get('documents', '-')}, queries {measured.get('texts', '-')}",
        "leakage": f"{run.record.get('removed_from_train', '?')} training queries left out, which another split asks too",
        "commit": f"{trained['commit']} (training), {measured['commit']} (evaluation)",
        "packages": ", ".join(f"{name} {version}" for name, version in measured["packages"].items()),
        "machine": ", ".join([measured["processor"], f"{measured['threads']} threads", *measured["gpus"]]),
        "time": f"{trained['time']} (training), {measured['time']} (evaluation)",
        "seed": run.record["inputs"]["seed_everything"],
    }
    commit = (trained["commit"] or "").removesuffix("+changes")
    lines = [f"git checkout {commit}"] if commit else []
    lines += [_encoding(run), *(shlex.join(["distill", *made["command"][1:]]) for made in (trained, measured))]
    config = run.folder.config.read_text(encoding="utf-8")
    return {
        "name": run.name,
        "provenance": [(key, str(value)) for key, value in facts.items()],
        "commands": "\n".join(lines),
        "config": config,
    }


def _encoding(run: RunEvidence) -> str:
    """The command that makes the store again, or what to do where no command does."""
    data = run.config["data"]
    maker = Maker.from_json(run.results["provenance"]["teacher"], f"{run.name}: results.json")
    if not maker.is_loadable:
        return f"# {data['store']}: vectors of {maker.name}, which {maker.describe_origin()}"
    source = data["source"]
    words = ["distill", "encode", "--teacher", maker.name, "--source", source["class_path"]]
    words += [word for key, value in source["init_args"].items() if value is not None for word in (f"--source.{key}", str(value))]
    files = ["--queries", f"[{','.join(data['queries'])}]"] if data["queries"] else []
    for key in ("precision", "pooling", "normalize", "prompts"):
        if (value := getattr(maker, key)) is not None:
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join([*words, *files, "--out", data["store"]])
