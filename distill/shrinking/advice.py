"""What to do next, from what a job saw."""

from __future__ import annotations

from collections.abc import Sequence

from distill.data.known_queries import MANY_LONGER, MANY_UNLIKE
from distill.evaluation.results import Results
from distill.shrinking.ladder import MOST_LAYERS
from distill.shrinking.texts import CROPS, JobTexts
from distill.texts.text_source import TRAIN

STILL_IMPROVING = 0.003  # overlap@10 that the last fifth of a training has to add
FEW = 1_000  # queries, below which more of them help most
WEAK_OVERLAP = 0.6
MORE_LAYERS = f"more layers help, e.g. --size {MOST_LAYERS}"


def list_advice(
    texts: JobTexts,
    curve: Sequence[float],
    results: Results,
    is_longest: bool = False,
    larger: str | None = MORE_LAYERS,
    goes_on: bool = False,
) -> list[str]:
    """Lists what a user could do to get a better student; empty where nothing stands out.

    Args:
        texts: the texts of the job.
        curve: overlap@10 on dev after each epoch.
        results: of the evaluation.
        is_longest: whether more time would have bought no more epochs.
        larger: what would make a larger student, in a sentence; None where nothing does.
        goes_on: whether the job continues an earlier one.
    """
    advice = []
    if len(curve) == 1:
        advice.append("it read its texts once at most: give more --minutes, in another --out")
    if is_still_improving(curve):
        fix = "as many as --minutes buy: give more queries" if is_longest else "give more --minutes, in another --out"
        advice.append(f"still improving after {len(curve)} epochs: {fix}")
    if texts.summary["queries"] == "crops":
        advice.append("no real queries: it learnt from crops of documents alone; queries of your users teach it more, a thousand help")
    elif texts.summary.get(CROPS) and not goes_on:
        advice.append(f"few queries: {texts.summary[CROPS]} crops of documents were added; more queries of your users teach it more")
    elif texts.summary[TRAIN] < FEW and (texts.material is None or texts.summary["documents"] == "queries"):
        more = "a thousand or more teach it better, and so do texts of documents, to cut some from"
        advice.append(f"few queries: {texts.summary[TRAIN]} were learnt from: {more}")
    familiarity = results.values.get("familiarity", {"longer": 0.0, "unlike": 0.0})
    measured = "of the queries it was measured on are"
    if familiarity["longer"] >= MANY_LONGER:
        known = f"99% of the texts it learnt from, {familiarity['longest_known_words']} words"
        advice.append(f"{familiarity['longer']:.0%} {measured} longer than {known}: give queries of that length too")
    if familiarity["unlike"] >= MANY_UNLIKE:
        advice.append(f"{familiarity['unlike']:.0%} {measured} unlike those it learnt from: give such queries too")
    overlap = results.agreement["overlap@10"]
    if overlap < WEAK_OVERLAP:
        limit = f"do not switch to it below {WEAK_OVERLAP:.0%}"
        advice.append(f"it finds {overlap:.0%} of the teacher's top 10: {limit}" + (f": {larger}" if larger else ""))
    return advice


def name_larger(size: int | str | None, backbone: str | None, goes_on: bool) -> str | None:
    """Says what would make a larger student than one of so many layers, or of a backbone.

    >>> name_larger(None, None, goes_on=False), name_larger(4, None, goes_on=False), name_larger(None, None, goes_on=True)
    ('more layers help, e.g. --size 4', None, 'a new job of more layers may find more, with all queries')
    """
    if goes_on:
        return "a new job of more layers may find more, with all queries"
    if backbone:
        return "a larger --backbone helps"
    return None if isinstance(size, int) and size >= MOST_LAYERS else MORE_LAYERS


def is_still_improving(curve: Sequence[float]) -> bool:
    """Tells whether the last fifth of the epochs, one at least, raised the best value.

    >>> is_still_improving([0.5, 0.6, 0.7]), is_still_improving([0.5, 0.7, 0.701])
    (True, False)
    """
    if len(curve) < 2:
        return False
    last = max(1, len(curve) // 5)
    return max(curve[-last:]) - max(curve[:-last]) >= STILL_IMPROVING
