"""What an evaluation measured, as an object: for a terminal, a notebook, a table or a JSON file."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.encoders.static_encoder import NUMPY
from distill.evaluation.fields import MAIN_METRIC, OVERLAP, OVERLAP_INTERVAL, STUDENT, TEACHER
from distill.evaluation.frames import make_frame
from distill.evaluation.query_lengths import format_lengths
from distill.evaluation.suite_results import SuiteResults
from distill.evaluation.verdict import write_verdict
from distill.files.atomic import read_json, write_json
from distill.metrics.retention import Interval
from distill.records import Ranking

if TYPE_CHECKING:
    from pandas import DataFrame

# field of a system in results.json: (heading of its column, how its value is formatted)
COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "mrr@10": ("MRR@10", "{:.4f}".format),
    "ndcg@10": ("nDCG@10", "{:.4f}".format),
    "recall@100": ("Recall@100", "{:.4f}".format),
    "params": ("parameters", lambda count: f"{count / 1e6:.1f}M"),
    "query_latency_ms_p50": ("ms a query", "{:.2f}".format),
}


@dataclass(frozen=True)
class Results:
    """The figures of one evaluation; `repr` is the table of a terminal, a notebook shows it as HTML.

    Args:
        values: the fields of results.json: dataset, queries, judged_queries, systems, retention, agreement, lengths, latency, provenance,
            and `suite` where a suite was measured. What the figures of latency mean is said in `distill.evaluation.latency`.
        rankings: the documents of each query by system, where they were computed just now; empty when read from a file.

    >>> systems = {"teacher": {"ndcg@10": 0.5}, "student": {"ndcg@10": 0.48}}
    >>> retention = {"ndcg@10": {"value": 0.96, "ci95": [0.93, 0.99]}}
    >>> agreement = {"overlap@10": 0.7, "cosine": 0.93, "split": "test", "queries": 50}
    >>> results = Results({"dataset": "mine/test", "queries": 50, "systems": systems, "retention": retention, "agreement": agreement})
    >>> results.retention["ndcg@10"].low
    0.93
    >>> results.verdict
    'keeps 96.0% [93.0, 99.0] of nDCG@10'
    """

    values: dict[str, Any]
    rankings: dict[str, Ranking] = field(default_factory=dict, compare=False)

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Reads a results.json."""
        return cls(read_json(Path(path), "evaluation results"))

    def save(self, path: str | Path) -> None:
        """Writes a results.json."""
        write_json(Path(path), self.values)

    def as_dict(self) -> dict[str, Any]:
        """The fields of results.json."""
        return self.values

    @property
    def systems(self) -> dict[str, dict[str, float]]:
        """Metrics, parameters and latency of each system by name: teacher, student and baselines."""
        return self.values["systems"]

    @property
    def retention(self) -> dict[str, Interval]:
        """The student's mean over the teacher's, by metric, with its paired 95% interval; empty where no query is judged."""
        return {metric: Interval(kept["value"], *kept["ci95"]) for metric, kept in self.values["retention"].items()}

    @property
    def agreement(self) -> dict[str, Any]:
        """Overlap of the first ten documents and cosine of the query vectors, student against teacher; needs no judgments."""
        return self.values["agreement"]

    @property
    def main_metric(self) -> str:
        """The metric of the verdict: nDCG@10, or overlap@10 where the teacher's nDCG@10 is unknown."""
        return MAIN_METRIC if MAIN_METRIC in self.values["retention"] else OVERLAP

    @property
    def main_retention(self) -> Interval:
        """What the student keeps of the main metric. Earlier releases stored no interval of an overlap: low and high are then the value."""
        if self.main_metric in self.retention:
            return self.retention[self.main_metric]
        overlap = self.agreement[OVERLAP]
        return Interval(overlap, *self.agreement.get(OVERLAP_INTERVAL, [overlap, overlap]))

    @property
    def latency_ratio(self) -> float | None:
        """The teacher's median latency over the student's; None where one of them was not measured."""
        latencies = [self.systems.get(name, {}).get("query_latency_ms_p50") for name in (TEACHER, STUDENT)]
        if latencies[0] is None or latencies[1] is None:
            return None
        return latencies[0] / latencies[1]

    @property
    def verdict(self) -> str:
        """One line: `keeps 97.3% [95.9, 98.6] of nDCG@10 at 1/4 of the latency`, as `write_verdict` words it."""
        suite = self.suite
        lengths = self.values.get("lengths", {}) if suite is None else suite.values["lengths"]
        abroad = None if suite is None else suite.main_retention
        return write_verdict(self.main_metric, self.main_retention, self.latency_ratio, lengths, abroad)

    @property
    def suite(self) -> SuiteResults | None:
        """The results on a suite's collections of other domains; None where no suite was measured."""
        return SuiteResults(self.values["suite"]) if "suite" in self.values else None

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame: a row a system, a column for each metric, for the parameters and for the latency."""
        return make_frame(self.systems)

    def __repr__(self) -> str:
        return format_results(self.values)

    def _repr_html_(self) -> str:
        headings, cells = make_table(self.systems)
        heads = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
        rows = "".join(f"<tr><th>{html.escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for name, row in cells.items())
        lines = "<br>".join(html.escape(line) for line in format_sentences(self.values))
        caption = html.escape(f"{self.values['dataset']}, {describe_queries(self.values)}")
        return f"<table><caption>{caption}</caption><tr><th></th>{heads}</tr>{rows}</table><p>{lines}</p>"


def format_results(values: dict[str, Any]) -> str:
    """The table of a terminal: a line a system, then what the student keeps and how far it agrees."""
    headings, cells = make_table(values["systems"])
    lines = [f"{values['dataset']}, {describe_queries(values)}", " " * 12 + "".join(f"{heading:>12}" for heading in headings)]
    for name, row in cells.items():
        lines.append(f"{name:<12}" + "".join(f"{cell:>12}" for cell in row))
    lines += format_sentences(values)
    if "suite" in values:
        lines += ["", repr(SuiteResults(values["suite"]))]
    return "\n".join(lines)


def describe_queries(values: dict[str, Any]) -> str:
    """Says how many queries there are, and how many are judged where not all or none are: metrics are means over these.

    >>> describe_queries({"queries": 200, "judged_queries": 43}), describe_queries({"queries": 200, "judged_queries": 200})
    ('200 queries, 43 of them judged', '200 queries')
    """
    queries = values["queries"]
    judged = values.get("judged_queries", queries)  # which release 0.1 did not count
    return f"{queries} queries, {judged} of them judged" if 0 < judged < queries else f"{queries} queries"


def make_table(systems: dict[str, dict[str, float]]) -> tuple[list[str], dict[str, list[str]]]:
    """The headings of the figures that were measured, and the cells of each system; - where a figure was measured of others alone.

    >>> make_table({"teacher": {"ndcg@10": 0.5, "params": 22.6e6}, "student": {"ndcg@10": 0.48}})
    (['nDCG@10', 'parameters'], {'teacher': ['0.5000', '22.6M'], 'student': ['0.4800', '-']})
    """
    columns = {field: column for field, column in COLUMNS.items() if any(field in system for system in systems.values())}
    cells = {
        name: [write(system[field]) if field in system else "-" for field, (_, write) in columns.items()]
        for name, system in systems.items()
    }
    return [heading for heading, _ in columns.values()], cells


def format_sentences(values: dict[str, Any]) -> list[str]:
    """What the student keeps of each metric, and the agreement, a sentence each."""
    sentences = []
    for metric, kept in values["retention"].items():
        low, high = kept["ci95"]
        sentences.append(f"the student keeps {kept['value']:.1%} [{low:.1%}, {high:.1%}] of the teacher's {COLUMNS[metric][0]}")
    sentences.append(format_agreement(values))
    sentences += format_lengths(values.get("lengths", {}))  # release 0.1 did not measure it
    served = values.get("latency", {}).get("paths", {})  # releases before 0.2 did not measure it
    if served:
        models = ", ".join(f"{name} {path['query_latency_ms_p50']:.2f} ms" for name, path in served.items())
        way = "without PyTorch" if NUMPY in served else "in ONNX Runtime"
        sentences.append(f"the student {way}: {models} a query")
    return sentences


def format_agreement(values: dict[str, Any]) -> str:
    """The agreement of student and teacher in a sentence."""
    agreement = values["agreement"]
    interval = " [{:.3f}, {:.3f}]".format(*agreement[OVERLAP_INTERVAL]) if OVERLAP_INTERVAL in agreement else ""
    cosine = f", cosine {agreement['cosine']:.3f}" if "cosine" in agreement else ""
    place = f"agreement on {agreement['queries']} {agreement['split']} queries"
    return f"{place}: overlap@10 {agreement[OVERLAP]:.3f}{interval}{cosine}"
