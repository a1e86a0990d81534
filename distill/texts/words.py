"""Words of a text, in any script: in those that write no spaces between words, as Chinese, Japanese and Thai, each character is one."""

from __future__ import annotations

import re

# Thai, Lao, Burmese, Khmer, punctuation of Chinese and Japanese, kana, Chinese characters, fullwidth forms
WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3001-\u303f\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uffef"
    "\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{WITHOUT_SPACES}]\s*|[^\s{WITHOUT_SPACES}]+\s*")


def cut_words(text: str) -> list[str]:
    """Cuts a text into words, each with the white space behind it, so that they are the text again where they are joined.

    >>> cut_words("the Rhine"), cut_words("莱茵河 2024"), cut_words("河。Rhine")
    (['the ', 'Rhine'], ['莱', '茵', '河 ', '2024'], ['河', '。', 'Rhine'])
    """
    return WORD.findall(text)


def count_words(text: str) -> int:
    """Counts the words of a text.

    >>> count_words("where does the Rhine rise"), count_words("莱茵河发源于哪里"), count_words("")
    (5, 8, 0)
    """
    return len(text.split()) if text.isascii() else len(WORD.findall(text))
