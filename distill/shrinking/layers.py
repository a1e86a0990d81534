"""Which layers the students of a job keep: chosen once, by the job's texts and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill.data.targets import read_targets
from distill.encoders.encoder import Encoder
from distill.encoders.layer_choice import choose_alike_layers
from distill.encoders.pooling import Pooling
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, StudentSpec, choose_prompt
from distill.files.progress import log
from distill.shrinking.request import Job, Request
from distill.shrinking.texts import JobTexts
from distill.shrinking.training import make_data
from distill.texts.text_source import TRAIN

MOST_TEXTS = 1_000  # which a cut of few layers reads in seconds


def name_layers_once(request: Request, job: Job, texts: JobTexts, specs: Sequence[StudentSpec]) -> list[StudentSpec]:
    """Puts the numbers of layers in the place of how many there are, as `choose_alike_layers` chooses them, once a job.

    Args:
        request: what the job was asked for.
        job: its record.
        texts: its texts, whose vectors are stored.
        specs: students of one transformer; those that keep it whole, have no layers or name theirs come back as they are.
    """
    counts = [count_layers(spec) for spec in specs]
    counted = [spec for spec, count in zip(specs, counts, strict=True) if count]
    if not counted:
        return list(specs)
    if job.read("layers") is None:
        log.info("choosing which layers a student keeps")
        job.write("layers", choose_layers(request, texts, counted[0], max(counts)))
    chosen = {count: job.read("layers")[count - 1] for count in sorted(set(counts)) if count}
    log.info("a student keeps " + "; or ".join(f"layers {', '.join(map(str, layers))}" for layers in chosen.values()))
    return [set_layers(spec, chosen[count]) if count else spec for spec, count in zip(specs, counts, strict=True)]


def count_layers(spec: StudentSpec) -> int:
    """How many layers a student keeps, where their number alone is given; else 0.

    >>> count_layers(StudentFromTeacher(3)), count_layers(StudentFromTeacher([0, 5])), count_layers(StudentFromBackbone("bge-small"))
    (3, 0, 0)
    """
    layers = getattr(spec, "keep_layers" if isinstance(spec, StudentFromBackbone) else "layers", None)
    return layers if isinstance(layers, int) else 0


def set_layers(spec: StudentSpec, layers: list[int]) -> StudentSpec:
    """The same student with the layers that it keeps.

    >>> set_layers(StudentFromTeacher(2), [0, 5]).layers
    [0, 5]
    """
    if isinstance(spec, StudentFromBackbone):
        return replace(spec, keep_layers=layers)
    assert isinstance(spec, StudentFromTeacher), "only these count layers"
    return replace(spec, layers=layers)


def choose_layers(request: Request, texts: JobTexts, spec: StudentSpec, most: int) -> list[list[int]]:
    """Chooses the layers of students of 1 to `most` layers of the transformer that `spec` cuts."""
    assert isinstance(spec, StudentFromTeacher | StudentFromBackbone), "only these count layers"
    has_enough = len(texts.source.queries(TRAIN)) >= MOST_TEXTS  # then without pieces of documents, which are many times as long
    data = make_data(request, replace(texts, extra=()) if has_enough else texts)
    data.setup("fit")
    maker = data.teacher_space.maker
    whole = spec.load_whole(maker)
    pooling = Pooling(*whole.pooling.modes)  # of all tokens, as that of a student, so that the tokens of its prompt bear no marks
    whole = Encoder([whole.transformer, pooling], whole.tokenizer, whole.settings)
    whole = whole.set_query_prompt(choose_prompt(None, whole, maker))
    return choose_alike_layers(whole, most, *read_targets(data, whole, MOST_TEXTS))
