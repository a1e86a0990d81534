"""What to do next, from what a job saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.shrinking.texts import CROPS, JobTexts
from distill.texts.text_source import TRAIN
from distill.texts.texts import Texts, evenly_spaced_rows

STILL_IMPROVING = 0.003  # overlap@10 that the last fifth of a training has to add
FEW = 1_000  # queries, below which more of them help most
LONGER = 1.5  # times as many words as the texts that were learnt from
WEAK_OVERLAP = 0.6
TEXTS_COUNTED = 1_000


def list_advice(texts: JobTexts, curve: Sequence[float], agreement: dict[str, Any]) -> list[str]:
    """Lists what a user could do to get a better student; empty where nothing stands out.

    Args:
        texts: the texts of the job.
        curve: overlap@10 on dev after each epoch.
        agreement: the field of results.json.
    """
    advice = []
    if is_still_improving(curve):
        advice.append("still improving when its time was over: give more --minutes, in another --out")
    if texts.summary["queries"] == "crops":
        advice.append("no real queries: it learnt from crops of documents alone; queries of your users teach it more, a thousand help")
    elif texts.summary.get(CROPS):
        advice.append(f"few queries: {texts.summary[CROPS]} crops of documents were added; more queries of your users teach it more")
    elif texts.summary[TRAIN] < FEW and texts.material is None:
        more = "a thousand or more teach it better, and so do texts of documents, to cut some from"
        advice.append(f"few queries: {texts.summary[TRAIN]} were learnt from: {more}")
    ratio = measure_length_ratio(texts)
    if ratio >= LONGER:
        longer = f"the queries it was measured on are {ratio:.1f} times as long as the texts it learnt from"
        advice.append(f"{longer}: give queries of that length too")
    if not advice and agreement["overlap@10"] < WEAK_OVERLAP:
        advice.append(f"it finds {agreement['overlap@10']:.0%} of the teacher's top 10: take more layers, e.g. --size 4, or more queries")
    return advice


def is_still_improving(curve: Sequence[float]) -> bool:
    """Tells whether the last fifth of the epochs, one at least, raised the best value.

    >>> is_still_improving([0.5, 0.6, 0.7]), is_still_improving([0.5, 0.7, 0.701])
    (True, False)
    """
    if len(curve) < 2:
        return False
    last = max(1, len(curve) // 5)
    return max(curve[-last:]) - max(curve[:-last]) >= STILL_IMPROVING


def measure_length_ratio(texts: JobTexts) -> float:
    """Returns how many times longer, in words, the queries that were measured on are than the texts that were learnt from."""
    measured = count_words(texts.source.queries(texts.summary["evaluated_on"]))
    trained = count_words(texts.source.queries(TRAIN))
    if texts.crops is not None:
        crops = Texts.open(texts.crops)
        real = texts.summary[TRAIN]
        trained = (real * trained + len(crops) * count_words(crops)) / (real + len(crops))
    return measured / max(trained, 1e-9)


def count_words(texts: Texts) -> float:
    """Returns the mean number of words of a sample of texts."""
    return float(np.mean([len(texts[row].split()) for row in evenly_spaced_rows(len(texts), TEXTS_COUNTED)]))
