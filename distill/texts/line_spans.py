"""Where the lines of a text file lie, found for millions of them at once."""

from __future__ import annotations

import numpy as np

from distill.files.text_lines import BYTE_ORDER_MARK

TAB, NEWLINE, RETURN = b"\t\n\r"


def line_spans(chunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first byte of every line [n] and its end [n]; a newline, and a carriage return before it, are left out.

    >>> line_spans(np.frombuffer(b"ab\\r\\ncde", np.uint8))
    (array([0, 4]), array([2, 7]))
    """
    ends = np.flatnonzero(chunk == NEWLINE)
    if chunk[-1] != NEWLINE:
        ends = np.append(ends, len(chunk))
    starts = np.concatenate([[0], ends[:-1] + 1])
    has_return = (ends > starts) & (chunk[ends - 1] == RETURN)
    return starts, ends - has_return


def skip_byte_order_marks(chunk: np.ndarray, line_starts: np.ndarray) -> np.ndarray:
    """The first byte of every line [n] behind a byte order mark; later lines have one where files that begin with it were joined."""
    marked = line_starts[chunk[line_starts] == BYTE_ORDER_MARK[0]] if len(line_starts) else line_starts
    marked = [start for start in marked.tolist() if chunk[start : start + 3].tobytes() == BYTE_ORDER_MARK]
    return line_starts + len(BYTE_ORDER_MARK) * np.isin(line_starts, marked)


def cut_out(chunk: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Copies n byte strings, which begin at `starts` [n] and are `lengths` [n] long, into one fixed-width array [n].

    >>> cut_out(np.frombuffer(b"ab\\tcde", np.uint8), np.array([0, 3]), np.array([2, 3])).tolist()
    [b'ab', b'cde']
    """
    columns = np.zeros((len(starts), max(1, lengths.max(initial=0))), np.uint8)
    for column in range(columns.shape[1]):
        rows = np.flatnonzero(lengths > column)
        columns[rows, column] = chunk[starts[rows] + column]
    return columns.view(f"S{columns.shape[1]}").ravel()
