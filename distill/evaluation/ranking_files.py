"""The rankings of an evaluation as TREC run files, which lie beside its results."""

from __future__ import annotations

from pathlib import Path

from distill.files.atomic import write_atomically
from distill.files.links import refuse_links_out
from distill.metrics.trec_runs import write_trec
from distill.records import Ranking
from distill.texts.ids import Ids
from distill.texts.own_documents import copy_run
from distill.texts.text_source import TextSource


def write_rankings(rankings: dict[str, Ranking], files: dict[str, str], corpus: Ids, results: Path, source: TextSource, split: str) -> None:
    """Writes a file for each ranking.

    Args:
        rankings: by name of the system.
        files: files of the rankings that were given as such, which are copied, but for each query's own document.
        corpus: ids of the documents.
        results: the file of the results.
        source: where the queries come from.
        split: the queries that were ranked for.
    """
    folder = results.parent / rankings_folder(results) / split
    for name, ranking in rankings.items():
        path = folder / f"{name}.trec"
        original = Path(files.get(name, ""))
        if not original.is_file():
            write_trec(ranking, corpus.__getitem__, path)
        elif not (path.exists() and path.samefile(original)):
            # its documents of other corpora are copied too: without them those below would move up
            with write_atomically(path) as temporary:
                copy_run(source, split, original, temporary)


def refuse_linked_rankings(results: Path, split: str, trust: bool) -> None:
    """Refuses a folder of rankings that is a link to somewhere else, whose files would be overwritten, unless the user trusts it."""
    if not trust:
        refuse_links_out(results.parent, f"{rankings_folder(results)}/{split}")


def rankings_folder(results: Path) -> str:
    """The name of the folder beside the results; those of results-NAME.json lie apart, as a run's own results must keep theirs.

    >>> rankings_folder(Path("mine/results.json")), rankings_folder(Path("mine/results-other.json"))
    ('runs', 'runs-other')
    """
    return "runs" if results.name == "results.json" else f"runs-{results.stem.removeprefix('results-')}"
