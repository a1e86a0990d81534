"""The verbs of `distill`; each is imported when it is called, so that `--help` answers at once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches

# verb: (module and function, what it does)
VERBS = {
    "teach": (
        "distill.training.teach:teach",
        "trains or fine-tunes a teacher on labels: a dual or a cross encoder, or a generator of queries",
    ),
    "encode": ("distill.teachers.encode:encode", "a teacher's vectors of documents and queries, into a store"),
    "import": ("distill.vectors.import_vectors:import_vectors", "vectors that already exist, into a store; no model is needed"),
    "mine": ("distill.teachers.mining:mine", "hard negatives from a teacher's store, into a folder"),
    "generate": ("distill.generate.write:generate", "more queries to match on, made of real ones or of documents, into a folder"),
    "train": ("distill.training.train:train", "a student of that teacher, into a run folder"),
    "sweep": ("distill.training.sweep:sweep", "many trainings of a sweep file, here and without an account, and a table of them"),
    "evaluate": ("distill.evaluation.evaluate:evaluate", "teacher and student on the same corpus: metrics, retention, latency"),
    "rerank": ("distill.evaluation.rerank:rerank", "another system's documents in a teacher's order: metrics before and after"),
    "report": ("distill.report.report:report", "one HTML page of a run, or comparing several: what is kept, where it loses, what it costs"),
    "search": ("distill.evaluation.search_run:search_documents", "answers a typed query with the student over the teacher's documents"),
    "export": ("distill.export.export:export", "the student, and the pair of student and teacher, for other programs"),
}

OUT_OF_MEMORY = re.compile("out of memory|allocate memory|can't start new thread", re.IGNORECASE)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; the exit code is 0, 2 after bad input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(format_overview())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("distill"))
        return 0
    verb = arguments.pop(0)
    if verb not in VERBS:
        nearest = get_close_matches(verb, VERBS, n=1)
        return print_refusal(f"no verb {verb!r}: " + (f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(VERBS)}"))
    return run_verb(verb, arguments)


def run_verb(verb: str, arguments: list[str]) -> int:
    """Imports the verb and runs it; input that the user can mend ends in one line on stderr."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # oneDNN keeps 1,024 compiled products, half a gigabyte in a training of long texts; even 32 cost but 1.6% of its time
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    from distill.records import BadInput

    try:
        from distill.cli.arguments import call_verb  # seconds of imports, which Ctrl-C may end too

        call_verb(verb, VERBS[verb][0], arguments)
    except BadInput as error:
        return print_refusal(f"{verb}: {error}")
    except KeyboardInterrupt:
        return 130
    except OSError as error:  # disk full, no permission
        return print_refusal(f"{verb}: {error.filename or ''}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
            raise
        return print_refusal(f"{verb}: out of memory ({' '.join(str(error).split())[:150]}): use smaller batches or fewer processes")
    return 0


def print_refusal(message: str) -> int:
    print(f"distill {message}" if not message.startswith("no verb") else f"distill: {message}", file=sys.stderr)
    return 2


def format_overview() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    end = "distill VERB --help lists a verb's options."
    return f"Keep your index, shrink your query encoder.\n\nusage: distill VERB [options]\n\n{lines}\n\n{end}"
