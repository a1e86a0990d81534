"""What is printed: every text goes through here, as those of documents, folders and servers may hold what a terminal obeys."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

from distill.records import printable_on


def show_text(text: object = "", end: str = "\n", error: bool = False) -> None:
    """Prints a text to standard output, or to standard error.

    Args:
        text: what to print; its control characters and what the stream cannot encode are written out.
        end: what follows it.
        error: whether it goes to standard error.
    """
    stream = sys.stderr if error else sys.stdout
    print(printable_on(stream, text), end=end, file=stream, flush=bool(not end))


def show_errors_clean() -> None:
    """Makes an error that ends the program show its message as everything else is shown, unless the program shows errors in its own way."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_error


def _show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    show_text("".join(traceback.format_exception(kind, error, trace)), end="", error=True)
