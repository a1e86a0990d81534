"""The JSON file of all figures, written anew after each of them, and the tables that are printed from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from card.sizes import CARD
from distill.files.atomic import write_json

NOT_MEASURED = "not measured yet"
# what we aim at: the least share of the bound of the same run
TRAINING, SEARCH, ENCODE = 0.60, 0.60, 0.50
EVALUATION, EVALUATION_SECONDS = "seconds of an evaluation", 3.0  # 6,980 queries over 8,841,823 documents that lie on the card
WAITS = 0.0  # of the host for the card, in a step
OPERATIONS = "operations_a_second"  # of a figure, from which `distill plan` knows how long other jobs take


class Report:
    """The figures of a run; whoever has the path can add to it, one process after the other."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {"parts": {}, "rows": []}

    def write(self, **values: Any) -> None:
        """Sets values of the whole run."""
        write_json(self.path, {**self.read(), **values})

    def end_part(self, part: str, state: str, seconds: float) -> None:
        """Notes how a part ended: `done`, or why it has not all its figures."""
        self.write(parts={**self.read()["parts"], part: {"state": state, "seconds": round(seconds, 1)}})

    def add(self, part: str, row: str, column: str, value: Any, unit: str, **more: Any) -> None:
        """Adds a figure.

        Args:
            part: the table that it stands in, by its row and column.
            value: a number, or a word.
            more: `bound` in the same unit, with `bound_is` in words, `least_share` that we aim at, or `most`; anything else is a note.
        """
        figure = {"part": part, "row": row, "column": column, "value": value, "unit": unit, **more}
        if more.get("bound"):
            figure["share"] = value / more["bound"]
        figure["met"] = None if self.read().get("simulated") else is_met(figure)
        self.write(rows=[*self.read()["rows"], figure])


def is_met(figure: dict[str, Any]) -> bool | None:
    """Whether a figure is as good as we aim at; None where there is no aim.

    >>> is_met({"value": 70.0, "share": 0.7, "least_share": 0.6}), is_met({"value": 2, "most": 0}), is_met({"value": 5})
    (True, False, None)
    """
    if "least_share" in figure:
        return bool(figure["share"] >= figure["least_share"])
    if "most" in figure:
        return bool(figure["value"] <= figure["most"])
    return None


def name_training(layers: int, candidates: int) -> str:
    """
    >>> name_training(2, 16)
    '2 layers, 16 candidates'
    """
    return f"{layers} layer{'s' * (layers > 1)}, {f'{candidates} candidates' if candidates else 'queries alone'}"


TRAININGS = [name_training(layers, candidates) for layers in CARD.student_layers for candidates in CARD.candidates]
CHECKS = ["search", "losses", "training", "NCCL, one rank", "tests"]
# part: its title, rows and columns where a card was measured
TABLES: dict[str, tuple[str, list[str], list[str]]] = {
    "machine": (
        "The card",
        ["products in bf16, TFLOP/s", "products in fp32, TFLOP/s", "copy from pinned memory, GB/s", "copy on the card, GB/s"],
        ["measured"],
    ),
    "correctness": ("Correct", CHECKS, ["result"]),
    "waits": ("Waits of the host for the card, in a step", [*TRAININGS[:2], f"{TRAININGS[0]}, clipped", "DualTeacher"], ["waits"]),
    "training": (
        "Training, queries a second",
        [name for training in TRAININGS for name in (training, f"{training}: bare loop")],
        [f"batch {batch:,}" for batch in CARD.batches],
    ),
    "search": (
        f"Search, queries a second, top {CARD.top} of {CARD.corpus:,} x {CARD.corpus_width} in fp16",
        [*(f"{queries:,} queries" for queries in CARD.searches), EVALUATION],
        ["bare product and topk", "resident", "pinned", "streamed"],
    ),
    "encode": (
        "Encoding, tokens a second, BERT-base's shape",
        ["token ids to vectors", "text to store"],
        [f"{tokens:,} tokens a batch" for tokens in CARD.tokens_per_batch],
    ),
    "teach": ("Teaching, pairs a second", ["DualTeacher", "CrossTeacher"], [f"batch {CARD.teach_batch}"]),
    "generate": ("Generating, queries a second, T5-small's shape", ["Seq2Seq", "transformers' generate"], ["from documents"]),
}


def make_tables(result: dict[str, Any]) -> str:
    """Returns the tables of a run in Markdown; a figure that it lacks is `not measured yet`.

    >>> print(make_tables({"rows": []}).split("\\n\\n")[3])
    | Waits of the host for the card, in a step | waits |
    |---|---|
    | 2 layers, queries alone | not measured yet |
    | 2 layers, 16 candidates | not measured yet |
    | 2 layers, queries alone, clipped | not measured yet |
    | DualTeacher | not measured yet |
    """
    pages = [describe_run(result)]
    for part, (title, rows, columns) in TABLES.items():
        figures = {(figure["row"], figure["column"]): figure for figure in result["rows"] if figure["part"] == part}
        if result.get("simulated"):  # of other sizes
            rows, columns = unique(row for row, _ in figures), unique(column for _, column in figures)
        lines = [[title, *columns], ["---"] * (1 + len(columns))]
        lines += [[row, *(describe(figures.get((row, column))) for column in columns)] for row in rows]
        pages.append("\n".join(f"| {' | '.join(cells)} |" if cells[0] != "---" else f"|{'|'.join(cells)}|" for cells in lines))
        state = result.get("parts", {}).get(part, {}).get("state", "done")
        if state != "done":
            pages.append(f"{part}: {state}")
    return "\n\n".join(pages)


def describe_run(result: dict[str, Any]) -> str:
    if "machine" not in result:
        return f"Card: {NOT_MEASURED}."
    machine, versions = result["machine"], result["versions"]
    where = "simulated on a CPU: the figures mean nothing, only that everything runs" if result["simulated"] else machine["card"]
    return f"Card: {where}; torch {versions.get('torch')}, commit {versions['commit']}."


def describe(figure: dict[str, Any] | None) -> str:
    """
    >>> describe({"value": 1234.5, "unit": "queries/s", "share": 0.651, "met": True})
    '1,234 (65%, met)'
    """
    if figure is None:
        return NOT_MEASURED
    value = figure["value"]
    words = [f"{figure['share']:.0%}"] if "share" in figure else []
    if figure.get("met") is not None:
        words.append("met" if figure["met"] else "not met")
    if figure.get("scaled"):
        words.append(figure["scaled"])
    shown = value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{shown} ({', '.join(words)})" if words else shown


def find_failures(result: dict[str, Any]) -> list[str]:
    """Returns a line for each part that ended with an error, and each check that failed; time that ran out is none.

    >>> parts = {"encode": {"state": "done"}, "search": {"state": "failed: OutOfMemoryError"}, "teach": {"state": "stopped at its limit"}}
    >>> find_failures({"parts": parts, "rows": [{"part": "correctness", "row": "losses", "value": "FAILED: OneHot"}]})
    ['search: failed: OutOfMemoryError', 'losses: FAILED: OneHot']
    """
    ends = [f"{part}: {end['state']}" for part, end in result["parts"].items() if end["state"].startswith(("failed", "died"))]
    return ends + [f"{figure['row']}: {figure['value']}" for figure in result["rows"] if str(figure["value"]).startswith("FAILED")]


def find_rates(result: dict[str, Any]) -> dict[str, Any]:
    """Returns the rates that `distill plan --rates` reads, as far as they were measured.

    >>> training = {"part": "training", "row": TRAININGS[0], "column": "batch 64", "value": 6400.0, OPERATIONS: 9e13}
    >>> find_rates({"machine": {"card": "H200", "memory_gib": 2.0}, "rows": [training]})
    {'device': 'H200', 'gpu_memory': 2147483648.0, 'train': 90000000000000.0, 'step': 0.01}
    """
    machine, rows = result.get("machine", {}), result["rows"]
    rates = {"device": machine.get("card"), "gpu_memory": machine.get("memory_gib", 0) * 2**30}
    for name, part in (("encode", "encode"), ("train", "training"), ("search", "search")):
        rates[name] = max((row.get(OPERATIONS, 0) for row in rows if row["part"] == part), default=0)
    values = {(row["row"], row["column"]): row["value"] for row in rows}
    small = values.get((TRAININGS[0], f"batch {CARD.batches[0]}"))
    rates["step"] = CARD.batches[0] / small if small else 0
    rates["copy"] = values.get(("copy from pinned memory, GB/s", "measured"), 0) * 1e9
    return {name: value for name, value in rates.items() if value}


def unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
