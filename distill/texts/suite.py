"""A suite: several judged collections, each a folder in BEIR or MS MARCO layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.files.progress import log
from distill.records import BadInput
from distill.texts.matching_ids import check_judged_documents
from distill.texts.own_documents import ids_meet_by_chance
from distill.texts.sources import open_source
from distill.texts.text_source import TextSource

SPLIT = "test"  # the split that BEIR judges
QUERY_FILES = ("queries.jsonl", "queries.jsonl.gz")


def open_collections(suite: str | Path | Sequence[str | Path], split: str = SPLIT, option: str = "suite") -> dict[str, TextSource]:
    """Opens the sources of a suite by the names of their folders.

    A query's own document is left out of its ranking, but not where ids of queries and documents are numbers that meet by chance.

    Args:
        suite: folders in BEIR or MS MARCO layout, or folders of such folders.
        split: judged queries of each collection.
        option: by which the folders were named, for messages.

    Raises:
        BadInput: a folder is no collection, two have one name, or none of a collection's queries or documents is judged.
    """
    named = [suite] if isinstance(suite, str | Path) else list(suite)
    sources: dict[str, TextSource] = {}
    folders = [folder for given in named for folder in list_collections(Path(given), option)]
    for folder in folders:
        name = folder.resolve().name
        if name in sources:
            raise BadInput(f"{option}: two collections are called {name}: rename one, or name it once")
        sources[name] = open_source(folder)
        if ids_meet_by_chance(sources[name], split):
            log.info(f"{name}: ids of queries and documents meet by chance, so a document that has a query's id may be found for it")
            sources[name] = open_source(folder, keep_own_documents=True)
        qrels = sources[name].qrels(split)
        if qrels is None or not len(qrels.judged_positions(list(sources[name].queries(split).ids))):
            raise BadInput(f"{option}: {name}: no query of {split} is judged: leave it out")
        check_judged_documents(sources[name], split, sources[name].documents().ids)
    if not sources:
        raise BadInput(f"{option}: name folders in BEIR layout")
    return sources


def list_collections(folder: Path, option: str = "suite") -> list[Path]:
    """Lists the collections in a folder; where there are none, the folder itself, which opening it then refuses or reads."""
    if not folder.is_dir():
        raise BadInput(f"{option}: {folder}: no such folder")
    if not _is_collection(folder):
        folders = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        inner = [path for path in folders if _is_collection(path)]
        if inner:
            others = [path.name for path in folders if path not in inner and path.name[0] not in "._"]
            if others:
                log.warning(f"{option}: {folder}: left out, as no queries.jsonl is in them: {', '.join(others)}: name folders of these too")
            return inner
    return [folder]


def _is_collection(folder: Path) -> bool:
    return any((folder / name).is_file() for name in QUERY_FILES) or any(folder.glob("queries.*.tsv*"))
