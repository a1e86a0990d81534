"""The verbs of `distill`; each is imported when it is called, so that `--help` answers at once."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from distill.cli.terminal import show_errors_clean, show_text
from distill.records import is_out_of_memory, printable

# verb: what it does; distill/cli/VERB.py has the function whose signature is its options
VERBS = {
    "shrink": "the whole job: teacher and queries in, student, verdict, report and export out",
    "plan": "what a job will take: time, disk and memory of each step, from what this machine or a GPU does in a second",
    "frontier": "which student to deploy: trains several sizes, measures each, recommends one",
    "teach": "trains or fine-tunes a teacher on labels: a dual or a cross encoder, or a generator of queries",
    "encode": "a teacher's vectors of documents and queries, into a store",
    "import": "vectors that already exist, into a store; no model is needed",
    "mine": "hard negatives from a teacher's store, into a folder",
    "generate": "more queries to match on, made of real ones or of documents, into a folder",
    "train": "a student of that teacher, into a run folder",
    "sweep": "many trainings of a sweep file, here and without an account, and a table of them",
    "evaluate": "teacher and student on the same corpus: metrics, retention, latency",
    "drift": "today's queries beside those that the student knows: are they still alike?",
    "rerank": "another system's documents in a teacher's order: metrics before and after",
    "report": "one HTML page of a run, or comparing several: what is kept, where it loses, what it costs",
    "search": "answers a typed query with the student over the teacher's documents",
    "export": "the student for other programs, with the teacher beside it on request",
}
SHARED_VERBS = ("teach", "encode", "generate", "train")  # of several ranks each does its share
MODULES = {"import": "import_vectors"}  # a file that Python cannot import under the verb's own name

BAD_INPUT = 2  # the exit code after input that the user can mend
READER_IS_GONE = 141  # the exit code of a program that SIGPIPE ends


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; the exit code is 0, 2 after bad input, 130 after Ctrl-C, 141 where `head` closed the pipe."""
    try:
        try:
            return answer(list(sys.argv[1:] if argv is None else argv))
        finally:
            if sys.stdout is not None:  # as it is where the shell closed it: `>&-`
                sys.stdout.flush()  # --help ends in SystemExit
    except OSError as error:  # of standard output: verbs report their own
        # at its end Python flushes once more, which must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_IS_GONE if isinstance(error, BrokenPipeError) else print_refusal(f"cannot print: {error.strerror}")


def answer(arguments: list[str]) -> int:
    """Prints the overview or the version, or runs a verb; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        show_text(format_overview())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        show_text(version("distill"))
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
    from distill.files.launch import end_with_launcher, read_launch
    from distill.records import BadInput, one_line

    end_with_launcher()
    launch = read_launch()
    if launch.world_size > 1 and verb not in SHARED_VERBS:
        # all ranks end alike, and one speaks for all
        return print_refusal(describe_lone_verb(verb, launch.world_size)) if launch.rank == 0 else BAD_INPUT
    try:
        return call_verb(verb, arguments)
    except BadInput as error:
        return print_refusal(f"{verb}: {error}")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:  # disk full, no permission
        return print_refusal(f"{verb}: {error.filename or ''}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return print_refusal(f"{verb}: out of memory ({one_line(error, 150)}): use smaller batches or fewer processes")


def call_verb(verb: str, arguments: list[str]) -> int:
    """Calls the verb's `main`, or its FUNCTION with what its signature makes of the arguments, and `show` with what that returns."""
    # seconds of imports, which Ctrl-C may end too
    module = importlib.import_module(f"distill.cli.{MODULES.get(verb, verb)}")
    from distill.files.progress import show_log

    show_log()
    show_errors_clean()
    if hasattr(module, "main"):
        module.main(arguments)
        return 0
    from distill.cli.parser import call_function

    return module.show(call_function(verb, module.FUNCTION, arguments)) or 0


def describe_lone_verb(verb: str, ranks: int) -> str:
    """Says why a verb that one process does is refused where several were started, which would write over one another's files."""
    fix = "start it without torchrun or srun, or without RANK and WORLD_SIZE, which some clusters set"
    return f"{verb}: {ranks} ranks were started, and this verb is for one process: {fix}"


def print_refusal(message: str) -> int:
    """Prints one line on stderr; returns the exit code."""
    line = printable(message, breaks=False)
    show_text(f"distill {line}" if not line.startswith("no verb") else f"distill: {line}", error=True)
    return BAD_INPUT


def format_overview() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    end = "distill VERB --help lists a verb's options."
    return f"Keep your index, shrink your query encoder.\n\nusage: distill VERB [options]\n\n{lines}\n\n{end}"
