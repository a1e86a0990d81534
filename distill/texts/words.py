"""Words of a text, in any script: in those that write no spaces between words, as Chinese, Japanese and Thai, each character is one."""

from __future__ import annotations

import re
from collections.abc import Sequence

CUT_OFF = " ..."
# Thai, Lao, Burmese, Khmer, punctuation of Chinese and Japanese, kana, Chinese characters, fullwidth forms
WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u303f\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uffef"
    "\U00020000-\U0003ffff"
)
# vowels and tones that stand above, below or behind one of these characters
MARKS = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3\u3099\u309a"
UNSPACED = re.compile(f"[{WITHOUT_SPACES}]")
WORD = re.compile(rf"[{WITHOUT_SPACES}][{MARKS}]*\s*|[^\s{WITHOUT_SPACES}]+\s*")
SPACE_BESIDE_UNSPACED = re.compile(rf"(?<=[{WITHOUT_SPACES}]) | (?=[{WITHOUT_SPACES}])")


def is_unspaced(text: str) -> bool:
    """Whether a text has characters of such a script."""
    return not text.isascii() and UNSPACED.search(text) is not None


def cut_words(text: str) -> list[str]:
    """Cuts a text into words, each with the white space behind it, so that they are the text again where they are joined.

    >>> cut_words("the Rhine"), cut_words("莱茵河 2024"), cut_words("河。Rhine")
    (['the ', 'Rhine'], ['莱', '茵', '河 ', '2024'], ['河', '。', 'Rhine'])
    """
    return WORD.findall(text)


def list_words(text: str) -> list[str]:
    """Lists the words of a text.

    >>> list_words("the  Rhine"), list_words("莱茵河 2024")
    (['the', 'Rhine'], ['莱', '茵', '河', '2024'])
    """
    return [word.rstrip() for word in WORD.findall(text)] if is_unspaced(text) else text.split()


def join_words(words: Sequence[str]) -> str:
    """Joins words to a text: by spaces, but not beside characters of a script that has none.

    >>> join_words(["the", "Rhine"]), join_words(["莱", "茵", "河", "2024"])
    ('the Rhine', '莱茵河2024')
    """
    text = " ".join(words)
    return SPACE_BESIDE_UNSPACED.sub("", text) if len(words) > 1 and is_unspaced(text) else text


def count_words(text: str) -> int:
    """Counts the words of a text.

    >>> count_words("where does the Rhine rise"), count_words("莱茵河发源于哪里"), count_words("")
    (5, 8, 0)
    """
    return len(WORD.findall(text)) if is_unspaced(text) else len(text.split())


def shorten(text: str, most: int) -> str:
    """The text on one line, cut off to so many characters, at the end of a word where one is near.

    >>> shorten("the river\\n Rhine", 20), shorten("the river Rhine rises", 17), shorten("莱茵河发源于哪里", 7)
    ('the river Rhine', 'the river ...', '莱茵河 ...')
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    cut = text[: most - len(CUT_OFF)]
    end = cut.rfind(" ") if text[len(cut)] != " " else len(cut)
    return (cut[:end] if 2 * end > len(cut) else cut) + CUT_OFF
