"""What was measured on a suite of collections, as an object: for a terminal, a notebook, a table or a JSON file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.evaluation.fields import MAIN_METRIC, OVERLAP, OVERLAP_INTERVAL, STUDENT, TEACHER
from distill.evaluation.query_lengths import format_lengths
from distill.evaluation.verdict import describe_abroad
from distill.files.atomic import write_json
from distill.metrics.retention import Interval

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class SuiteResults:
    """The figures of a student on several collections; `repr` is the table of a terminal.

    Args:
        values: the field `suite` of results.json: `collections` by name, each with documents, queries, median words of a query, systems,
            retention, agreement and, of a run's student, `familiarity`, the shares of queries unlike its training queries; then `retention`
            and `agreement`, means over collections with 95% intervals over collections and queries; `lengths`, by words in the query;
            provenance.

    >>> systems = {"teacher": {"ndcg@10": 0.5}, "student": {"ndcg@10": 0.45}}
    >>> kept, found = {"ndcg@10": {"value": 0.9, "ci95": [0.85, 0.94]}}, {"overlap@10": 0.6, "overlap@10_ci95": [0.55, 0.65]}
    >>> one = {"documents": 9, "queries": 4, "words": 7.0, "systems": systems, "retention": kept, "agreement": found}
    >>> suite = SuiteResults({"collections": {"cisi": one}, "retention": kept, "agreement": found, "lengths": {}})
    >>> suite.main_retention.low
    0.85
    >>> suite.verdict
    'abroad 90.0% [85.0, 94.0] of nDCG@10'
    """

    values: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The field `suite` of results.json."""
        return self.values

    def save(self, path: str | Path) -> None:
        """Writes a JSON file with the one field `suite`."""
        write_json(Path(path), {"suite": self.values})

    @property
    def collections(self) -> dict[str, dict[str, Any]]:
        """The figures of each collection by its name."""
        return self.values["collections"]

    @property
    def retention(self) -> dict[str, Interval]:
        """By metric, the mean over collections of what the student keeps, with its 95% interval over collections and queries."""
        return {metric: Interval(kept["value"], *kept["ci95"]) for metric, kept in self.values["retention"].items()}

    @property
    def main_metric(self) -> str:
        """The metric of the verdict."""
        return MAIN_METRIC

    @property
    def main_retention(self) -> Interval:
        """What the student keeps of nDCG@10, the mean over collections."""
        return self.retention[MAIN_METRIC]

    @property
    def agreement(self) -> Interval:
        """The mean over collections of the overlap of the first ten documents."""
        agreement = self.values["agreement"]
        return Interval(agreement[OVERLAP], *agreement[OVERLAP_INTERVAL])

    @property
    def verdict(self) -> str:
        """One line: `abroad 95.1% [93.2, 96.9] of nDCG@10`, and the length of queries of which much less is kept."""
        return describe_abroad(self.main_retention, self.values["lengths"])

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame: a row a collection; nDCG@10 of teacher and student, what is kept, overlap@10."""
        from distill.evaluation.frames import make_frame

        return make_frame({name: summarise_collection(part) for name, part in self.collections.items()})

    def __repr__(self) -> str:
        width = max(12, *(len(name) for name in self.collections)) + 2
        heads = ("documents", "queries", "words", TEACHER, STUDENT, OVERLAP)
        lines = [f"{'abroad':<{width}}{''.join(f'{head:>12}' for head in heads)}  kept of nDCG@10"]
        for name, part in self.collections.items():
            row = summarise_collection(part)
            counts = "".join(f"{row[head]:>12.0f}" for head in heads[:3])
            values = "".join(f"{row[head]:>12.4f}" for head in heads[3:])
            lines.append(f"{name:<{width}}{counts}{values}  {read_kept(part)}")
        mean = f"mean of {len(self.collections)}"
        lines.append(f"{mean:<{width}}{'':>60}{self.agreement.value:>12.4f}  {self.main_retention}")
        return "\n".join([*lines, *format_lengths(self.values["lengths"])])


def read_kept(part: dict[str, Any]) -> Interval:
    """What the student keeps of nDCG@10 on one collection."""
    kept = part["retention"][MAIN_METRIC]
    return Interval(kept["value"], *kept["ci95"])


def summarise_collection(part: dict[str, Any]) -> dict[str, float]:
    """The columns of a collection's row."""
    systems = part["systems"]
    return {
        "documents": part["documents"],
        "queries": part["queries"],
        "words": part["words"],
        TEACHER: systems[TEACHER][MAIN_METRIC],
        STUDENT: systems[STUDENT][MAIN_METRIC],
        "kept": read_kept(part).value,
        OVERLAP: part["agreement"][OVERLAP],
    }
