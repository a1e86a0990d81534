"""Compares vectors that are stored with those that a teacher writes of the same texts, and says what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from distill.encoders.batching import encode_texts
from distill.encoders.encoder import Encoder
from distill.encoders.pooling import Pooling
from distill.encoders.tokenizing import Role, TextSettings
from distill.files.progress import log
from distill.files.sampling import evenly_spaced_rows
from distill.records import BadInput
from distill.teachers.embedder import Embedder
from distill.teachers.local import LocalTeacher
from distill.texts.texts import Texts
from distill.vectors.index import Index
from distill.vectors.vector_files import ROWS_PER_BATCH

TEXTS_COMPARED = 256  # texts that are embedded again to see whether vectors that were given are this teacher's
TEXTS_TRIED = 32  # of those that differ, which are embedded with other settings too, to name the one that is wrong
SAME_TEXT = 0.99  # least cosine of two vectors of one text by one model in different precisions
# Of all-MiniLM-L6-v2's vectors: rounded to 8 bits, each keeps a cosine of 0.9989 or more. With "passage: " before texts of 150 words
# more than half have one of 0.99 or more, but one in twenty 0.995.
NEAR = 0.995  # cosine below which vectors that agree could still have been written with a short prompt, or cut a little elsewhere
SAME_SETTING = 0.998  # least cosine of vectors that agreed already, where another setting explains them better
SAME_LENGTH = 0.02  # most that two vectors of one text may differ in length, as a share of it
LEAST_AGREEING = 0.9  # share of vectors that must agree; the rest may have been cut at another length
OTHER_ROLE: dict[Role, Role] = {"query": "document", "document": "query"}
COMMON_LENGTHS = (128, 256, 384, 512, 1024, 2048)  # tokens after which programs cut texts


@dataclass(frozen=True)
class Fault:
    """Something that makes a student worse; faults of the same kind have the same `name`."""

    name: str
    message: str


def agreeing_rows(stored: Tensor, again: Tensor) -> Tensor:
    """Tells of each of n vectors [n, D] whether it has the same direction and length in both arrays, up to precision: [n] bool."""
    lengths = again.norm(dim=1) / stored.norm(dim=1).clamp(min=1e-12)  # [n]
    return (torch.cosine_similarity(again, stored) >= SAME_TEXT) & ((lengths - 1).abs() < SAME_LENGTH)


def vectors_agree(stored: Tensor, again: Tensor) -> bool:
    """Tells whether two arrays of vectors [n, D] have, row by row, the same direction and length, up to precision."""
    return bool(agreeing_rows(stored, again).all())


def diagnose_wrong_vectors(stored: Tensor, again: Tensor, nearest: Tensor) -> Fault | None:
    """Finds out why stored vectors differ from the same texts encoded again; None if they agree.

    Args:
        stored: [n, D], the stored vectors of n texts.
        again: [n, D], vectors of the same texts, encoded now.
        nearest: [n, D], for each vector of `again` the nearest stored vector of any text; in a correct store it is the text's own.
    """
    differs = ~agreeing_rows(stored, again)
    if not differs.any():
        return None
    cosines = torch.cosine_similarity(again, stored)
    wrong = cosines < SAME_TEXT
    # a vector that lies in another row is found in the store; after a change of prompt or pooling it is in no row
    misplaced = wrong & (torch.cosine_similarity(again, nearest) >= SAME_TEXT)
    if misplaced.sum() > wrong.sum() / 2:
        message = f"{int(misplaced.sum())} belong to other texts (mean cosine {cosines.mean():.3f}): ids are in another order than vectors"
        return Fault("misalignment", message)
    length = float((again.norm(dim=1) / stored.norm(dim=1).clamp(min=1e-12)).mean())
    measured = f"mean cosine {cosines.mean():.3f}, length {length:.3g} times"
    fault = "it is another model, or its prompt, pooling or normalisation is another"
    message = f"{int(differs.sum())} differ from what the teacher writes now ({measured}): {fault}"
    return Fault("teacher", message)


def compare_with_teacher(embedder: Embedder, texts: Texts | None, index: Index, role: Role = "document") -> None:
    """Embeds a sample of texts and refuses vectors that the teacher would not write; without texts it can only warn.

    Args:
        embedder: the teacher.
        texts: texts of some of the vectors, or of all; each has one.
        index: the vectors. One scale that all have in common counts as none, as it ranks the same.
        role: of the texts.
    """
    path, name = index.files.path, embedder.maker.name
    if index.width != embedder.width:
        fix = f"not its vectors, or dimensions: {index.width} cuts them" if index.width < embedder.width else "not its vectors"
        raise BadInput(f"{path}: its vectors are {index.width} wide, {name} writes {embedder.width}: {fix}")
    if texts is None:
        reason = describe_lengths(embedder, torch.from_numpy(next(iter(index.files.batches(TEXTS_COMPARED)))).float())
        if reason is not None:
            raise BadInput(f"{path}: not {name}'s vectors: {reason}")
        log.warning(f"{path}: nothing proves that they are the teacher's: give some of their texts as --documents")
        return
    rows = evenly_spaced_rows(len(texts), TEXTS_COMPARED)
    sample = texts.read(rows)
    again = torch.from_numpy(embedder.embed(embedder.prepare(sample, role), role, lambda _: None))  # [n, D]
    stored = take_vectors(index, [texts.ids[row] for row in rows])  # [n, D]
    scale = find_scale(stored, again)
    share = float(agreeing_rows(stored / scale, again).float().mean())
    if share < LEAST_AGREEING:
        reason = explain_difference(embedder, sample, role, stored, again, index)
        raise BadInput(f"{path}: not {name}'s vectors of these texts: of {len(rows)} sampled, {reason}")
    refuse_misplaced(stored / scale, again, index, path)
    refuse_nearer_setting(embedder, sample, role, stored, again, path)
    if abs(scale - 1) >= SAME_LENGTH:
        log.warning(f"{path}: {scale:.3g} times as long as those that {name} writes: they rank the same, scores are of another size")
    kind = "queries" if role == "query" else "documents"
    said = f"{path}: {share:.0%} of {len(rows)} sampled {kind} have the vector that the teacher writes"
    if share < 1:
        log.warning(f"{said}; the others may be of longer texts, cut elsewhere, or of texts that have changed")
    else:
        log.info(said)


def refuse_misplaced(stored: Tensor, again: Tensor, index: Index, path: str) -> None:
    """Refuses vectors [n, D] of which some are those of other texts: that rows are out of order in a part of the file is no rounding."""
    wrong = torch.nonzero(torch.cosine_similarity(again, stored) < SAME_TEXT).flatten()
    if not len(wrong):
        return
    _, nearest = index.search(again[wrong].numpy(), 1)
    found = torch.cosine_similarity(again[wrong], take_vectors(index, [ids[0] for ids in nearest]))
    misplaced = int((found >= SAME_SETTING).sum())  # documents that differ by a few words are as near as SAME_TEXT
    if misplaced > 1:
        raise BadInput(f"{path}: {misplaced} of {len(stored)} sampled vectors belong to other texts: a part of the rows is out of order")


def find_scale(stored: Tensor, again: Tensor) -> float:
    """How many times as long most stored vectors [n, D] are as those that are written now, `again` [n, D]."""
    return max(1e-12, float((stored.norm(dim=1) / again.norm(dim=1).clamp(min=1e-12)).median()))


def explain_difference(embedder: Embedder, sample: Sequence[str], role: Role, stored: Tensor, again: Tensor, index: Index) -> str:
    """Says why stored vectors [n, D] of n texts are not what the teacher writes of them, `again` [n, D]."""
    wrong, scaled = torch.cosine_similarity(again, stored) < SAME_TEXT, stored / find_scale(stored, again)
    if float(wrong.float().mean()) <= 1 - LEAST_AGREEING:
        return describe_lengths(embedder, stored, role) or _compare_lengths(scaled, again)
    setting = None
    if isinstance(embedder, LocalTeacher):
        tried = torch.nonzero(wrong).flatten()[:TEXTS_TRIED]
        setting = find_setting(embedder, [sample[row] for row in tried.tolist()], role, stored[tried])
    if setting is not None:
        cosine = float(torch.cosine_similarity(again, stored).mean())
        return f"{int(wrong.sum())} differ (mean cosine {cosine:.3f}): they are what it writes {setting}"
    _, nearest = index.search(again.numpy(), 1)
    fault = diagnose_wrong_vectors(scaled, again, take_vectors(index, [ids[0] for ids in nearest]))
    assert fault is not None, "called only where vectors differ"
    return fault.message


def refuse_nearer_setting(embedder: Embedder, sample: Sequence[str], role: Role, stored: Tensor, again: Tensor, path: str) -> None:
    """Of vectors [n, D] that agree, but are not as near as 8 bits are: refuses them where another setting explains them, else warns."""
    cosines = torch.cosine_similarity(again, stored)
    if float((cosines >= NEAR).float().mean()) >= LEAST_AGREEING:
        return
    measured, name = f"mean cosine {float(cosines.mean()):.4f}", embedder.maker.name
    setting = None
    if isinstance(embedder, LocalTeacher):
        tried = torch.argsort(cosines)[:TEXTS_TRIED]
        setting = find_setting(embedder, [sample[row] for row in tried.tolist()], role, stored[tried], SAME_SETTING)
    if setting is not None:
        raise BadInput(f"{path}: not {name}'s vectors of these texts, though near them ({measured}): they are what it writes {setting}")
    reasons = "they have fewer than 8 bits, a quantised model wrote them, or a short prompt differs"
    log.warning(f"{path}: near what {name} writes, but not the same ({measured}): {reasons}")


def find_setting(teacher: LocalTeacher, texts: Sequence[str], role: Role, stored: Tensor, least: float = SAME_TEXT) -> str | None:
    """Finds the one setting with which the teacher would have written stored vectors [n, D] of n texts, as words after `it writes`.

    Args:
        least: cosine that two vectors of one text must have.
    """
    for words, encoder, other in list_other_settings(teacher, role):
        again = torch.from_numpy(encode_texts(encoder, texts, other, teacher.precision))
        same = (torch.cosine_similarity(again, stored) >= least).float().mean()
        if float(same) >= LEAST_AGREEING:
            return words
    return None


def list_other_settings(teacher: LocalTeacher, role: Role) -> Iterator[tuple[str, Encoder, Role]]:
    """Yields what may be another in vectors that were given: prompt, role, pooling, length; each as words, an encoder and its role."""
    encoder, settings = teacher.towers.tower(role), teacher.towers.tower(role).settings
    prompt, other = settings.prompts[role], OTHER_ROLE[role]
    if prompt:
        without = replace(settings, prompts={**settings.prompts, role: ""})
        yield f"without its prompt {prompt!r}", _change(encoder, encoder.pooling, without), role
    yield f"of them as a {other}, not a {role}", teacher.towers.tower(other), other
    for mode in encoder.transformer.poolings:
        if len(encoder.pooling.modes) == 1 and mode not in encoder.pooling.modes:
            yield f"with pooling {mode}, not {encoder.pooling.mode}", _change(encoder, Pooling(mode), settings), role
    longest = encoder.transformer.positions or COMMON_LENGTHS[-1]
    for length in COMMON_LENGTHS:
        if length != settings.max_length and length <= longest:
            cut = replace(settings, max_length=length)
            yield f"of the first {length} tokens, not {settings.max_length}", _change(encoder, encoder.pooling, cut), role


def _change(encoder: Encoder, pooling: Pooling, settings: TextSettings) -> Encoder:
    """The same modules, but for pooling, with other settings of texts."""
    transformer, _, *head = encoder.module_list
    return Encoder([transformer, pooling, *head], encoder.tokenizer, settings).eval()


def describe_lengths(embedder: Embedder, stored: Tensor, role: Role = "document") -> str | None:
    """What is wrong with vectors [n, D] of several lengths, where the teacher's have length 1; None where nothing is."""
    lengths = stored.norm(dim=1)  # [n]
    even = ((lengths / lengths.median().clamp(min=1e-12) - 1).abs() < SAME_LENGTH).float().mean()
    if not isinstance(embedder, LocalTeacher) or not embedder.towers.tower(role).normalizes or even >= LEAST_AGREEING:
        return None
    low, high = (float(value) for value in torch.aminmax(lengths))
    fix = "divide each by its length, as an index that searches by cosine ranks the same"
    return f"it ranks by cosine, with vectors of length 1, these are {low:.3g} to {high:.3g} long: {fix}"


def _compare_lengths(stored: Tensor, again: Tensor) -> str:
    """Says that vectors [n, D] have the directions of those of the teacher, but other lengths."""
    ends = [tuple(float(value) for value in torch.aminmax(vectors.norm(dim=1))) for vectors in (stored, again)]
    (low, high), (least, most) = ends
    measured = f"they are {low:.3g} to {high:.3g} long, beside a common scale, its own {least:.3g} to {most:.3g}"
    return f"the directions agree, the lengths do not: {measured}: their normalisation is another"


def take_vectors(index: Index, ids: Sequence[str]) -> Tensor:
    """Looks up the vectors [n, D] float32 of n documents of an index, in one pass over its files."""
    rows = index.ids.rows(list(ids))
    vectors, start = np.empty((len(rows), index.width), np.float32), 0
    for batch in index.files.batches(ROWS_PER_BATCH):
        here = (rows >= start) & (rows < start + len(batch))
        vectors[here] = batch[rows[here] - start]
        start += len(batch)
    return torch.from_numpy(vectors)
