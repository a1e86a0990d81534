"""Puts the examples of docstrings (`>>> ...`) into code blocks: Markdown would take them for quotations."""

from __future__ import annotations

from typing import Any

import griffe

FENCE = "```"


class FenceDoctests(griffe.Extension):
    """Changes the docstring of everything that is documented."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fence_doctests(obj.docstring.value)


def fence_doctests(text: str) -> str:
    """Puts a fence around every paragraph that begins with `>>>`, in its indentation."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(fence_paragraph(paragraph) for paragraph in paragraphs)


def fence_paragraph(paragraph: str) -> str:
    """Puts a fence around the example at the end of a paragraph, where it has one."""
    lines = paragraph.split("\n")
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith(">>>")]
    if not starts:
        return paragraph
    first = starts[0]
    indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
    return "\n".join([*lines[:first], f"{indent}{FENCE}pycon", *lines[first:], f"{indent}{FENCE}"])
