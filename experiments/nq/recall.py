"""R@k as in work on Natural Questions: the share of questions with an answer among the first k. recall.py SOURCE.yaml RUN..."""

import sys
from pathlib import Path

import yaml

from distill.metrics.trec_runs import read_trec
from distill.texts.text_source import TextSource
from distill.training.run_folder import from_config

DEPTHS = (5, 20, 100)


def recalls(source: TextSource, run: Path, split: str = "test") -> list[float]:
    """A value for each of DEPTHS, over the judged questions of `split`."""
    qrels = source.qrels(split)
    assert qrels is not None, f"{split} has no judgments"
    found = read_trec(run)
    answers = {query: {document for document, grade in grades.items() if grade > 0} for query, grades in qrels.judgments.items()}
    first = [[document in relevant for document, _ in found.get(query, [])] for query, relevant in answers.items()]
    return [sum(any(hits[:depth]) for hits in first) / len(first) for depth in DEPTHS]


def main(description: str, *runs: str) -> None:
    source = from_config(yaml.safe_load(Path(description).read_text())["source"])
    print(" " * 40 + "".join(f"{f'R@{depth}':>9}" for depth in DEPTHS))
    for run in map(Path, runs):
        print(f"{run.parents[2].name + ' ' + run.stem:<40}" + "".join(f"{value:9.4f}" for value in recalls(source, run)))


if __name__ == "__main__":
    main(*sys.argv[1:])
