"""The students that `frontier` tries: what each is made of, and what it costs before it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from distill.data.datamodule import RetrievalData
from distill.encoders.folder import load_encoder
from distill.encoders.static_student import StaticStudent
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, StudentSpec
from distill.evaluation.latency import measure_query_latency, one_core, pytorch_path, sample_queries
from distill.files.progress import log
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.shrinking.request import STATIC, Request
from distill.shrinking.training import choose_student
from distill.teachers.embedder import Embedder
from distill.teachers.local import LocalTeacher

MOST_LAYERS = 4  # of a student: more of them keep hardly more
BYTES = 4  # of a parameter in fp32


@dataclass(frozen=True)
class Candidate:
    """A student to try.

    Args:
        name: what the table calls it.
        spec: makes it.
        instead_of: the name of a larger one, beside which it is not tried: it is smaller, but no faster, and no better.

    >>> Candidate("2 layers, used tokens", StudentFromTeacher(2, vocabulary="used"), instead_of="2 layers").folder
    '2-layers-used-tokens'
    """

    name: str
    spec: StudentSpec
    instead_of: str | None = None

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return self.name.replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class Cost:
    """What a student costs where it serves: the median time of a query on one core, and its weights in fp32."""

    milliseconds: float
    megabytes: float


@dataclass(frozen=True)
class Limits:
    """What is asked of a student to deploy.

    Args:
        max_ms: most milliseconds a query; None is no limit.
        max_mb: most megabytes of its weights; None is no limit.
        at_least: share of the teacher's quality that it has to keep surely.

    >>> Limits(max_ms=2).allow(Cost(1.9, 62)), Limits(max_ms=2, max_mb=60).allow(Cost(1.9, 62))
    (True, False)
    """

    max_ms: float | None = None
    max_mb: float | None = None
    at_least: float = 0.97

    def __post_init__(self) -> None:
        for name, value in (("max_ms", self.max_ms), ("max_mb", self.max_mb)):
            if value is not None and not 0 < value < float("inf"):
                raise BadInput(f"{name}: {value}: must be above 0")
        if not 0 < self.at_least <= 1:
            raise BadInput(f"at_least: {self.at_least}: a share of the teacher's quality, above 0 and at most 1, e.g. 0.97")

    def allow(self, cost: Cost) -> bool:
        """Tells whether a student of that cost is within the limits."""
        is_fast = self.max_ms is None or cost.milliseconds <= self.max_ms
        is_small = self.max_mb is None or cost.megabytes <= self.max_mb
        return is_fast and is_small


def list_candidates(request: Request, embedder: Embedder) -> list[Candidate]:
    """Lists the students of a ladder, small ones first: a table of tokens, then layers, with the tokens that the texts use and with all.

    Raises BadInput where the teacher cannot be cut, and no backbone was given.
    """
    spec = choose_student(request, embedder)
    if isinstance(spec, StudentFromBackbone):
        most = load_encoder(spec.name, spec.pooling).backbone.config.num_hidden_layers
        specs: list[StudentSpec] = [replace(spec, keep_layers=count) for count in range(1, min(MOST_LAYERS, most) + 1)]
    else:
        assert isinstance(embedder, LocalTeacher), "choose_student refuses other teachers without a backbone"
        most = max(1, embedder.towers.query.backbone.config.num_hidden_layers - 1)
        specs = [StudentFromTeacher(count) for count in range(1, min(MOST_LAYERS, most) + 1)]
    candidates = [] if isinstance(spec, StudentFromBackbone) else [Candidate(STATIC, StaticStudent(closed_form=True))]
    for count, whole in enumerate(specs, start=1):
        name = name_layers(count)
        pruned = replace(whole, vocabulary="used")  # type: ignore[type-var]
        candidates += [Candidate(f"{name}, used tokens", pruned, instead_of=name), Candidate(name, whole)]
    return candidates


def name_layers(count: int) -> str:
    """Names a student by its layers.

    >>> name_layers(1), name_layers(2)
    ('1 layer', '2 layers')
    """
    return "1 layer" if count == 1 else f"{count} layers"


def measure_costs(candidates: Sequence[Candidate], data: RetrievalData) -> dict[str, Cost]:
    """Measures what each student costs, by name; they take turns on the dev queries, and need no training for it.

    One whose tokens cannot be cut is left out.
    """
    data.setup("fit")
    encoders = {}
    for candidate in candidates:
        module = StudentModule(candidate.spec)
        try:
            module.prepare(data)
        except BadInput as error:
            if candidate.instead_of is None:
                raise
            log.info(f"{candidate.name}: left out: {error}")
            continue
        encoders[candidate.name] = module.encoder.eval()
    with one_core(encoders.values()):
        paths = {name: pytorch_path(encoder) for name, encoder in encoders.items()}
        latency = measure_query_latency(paths, sample_queries(data.dev_texts))
    return {
        name: Cost(latency[name]["query_latency_ms_p50"], encoder.parameter_count() * BYTES / 1e6) for name, encoder in encoders.items()
    }
