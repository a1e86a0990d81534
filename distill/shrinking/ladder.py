"""The students that `frontier` tries: what each is made of, and what it costs before it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from distill.data.datamodule import RetrievalData
from distill.encoders.narrow_table import NARROW_FAMILIES
from distill.encoders.static_student import StaticStudent
from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, StudentSpec
from distill.evaluation.latency import measure_query_latency, one_core, pytorch_path, sample_queries
from distill.export.serving import open_exact_path
from distill.files.progress import log
from distill.files.temporaries import sweep_temporaries, temporary_names
from distill.modules.student import StudentModule
from distill.records import BadInput
from distill.shrinking.request import STATIC, Request
from distill.shrinking.training import choose_student
from distill.teachers.embedder import Embedder
from distill.teachers.local import LocalTeacher

MOST_LAYERS = 4  # of a student: more of them keep hardly more
NARROW, NARROWEST = 2, 3  # how many times narrower than the layers the rows of a word table are
BYTES = 4  # of a parameter in fp32
EXPORTED = "exported"  # folder of an export that is timed


@dataclass(frozen=True)
class Candidate:
    """A student to try.

    Args:
        name: what the table calls it.
        spec: makes it.
        instead_of: the names of the larger students that this one replaces where all of them are too large.

    >>> Candidate("2 layers, fewer tokens", StudentFromTeacher(2, vocabulary="used"), instead_of=("2 layers",)).folder
    '2-layers-fewer-tokens'
    """

    name: str
    spec: StudentSpec
    instead_of: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return self.name.replace(",", "").replace(" ", "-")


@dataclass(frozen=True)
class Cost:
    """What a student costs where it serves: the median time of a query on one core, and its weights in fp32.

    It is served from its export: by NumPy where it has no layers, else as an ONNX graph in fp32, or by PyTorch where it has none.

    >>> print(Cost(0.684, 46.9), "and", Cost(4.02, 0.42))
    0.68 ms a query with 47 MB and 4.02 ms a query with 0.42 MB
    """

    milliseconds: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.milliseconds:.2f} ms a query with {format_megabytes(self.megabytes)} MB"


@dataclass(frozen=True)
class Limits:
    """What is asked of a student to deploy.

    Args:
        max_ms: most milliseconds a query; None is no limit.
        max_mb: most megabytes of its weights; None is no limit.
        at_least: share that it has to keep surely; None is the default of the metric.

    >>> Limits(max_ms=2).allow(Cost(1.9, 62)), Limits(max_ms=2, max_mb=60).allow(Cost(1.9, 62))
    (True, False)
    """

    max_ms: float | None = None
    max_mb: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("max_ms", self.max_ms), ("max_mb", self.max_mb)):
            if value is not None and not 0 < value < float("inf"):
                raise BadInput(f"{name}: {value}: must be above 0")
        if self.at_least is not None and not 0 < self.at_least <= 1:
            raise BadInput(f"at_least: {self.at_least}: a share of the teacher's quality, above 0 and at most 1, e.g. 0.97")

    def allow(self, cost: Cost) -> bool:
        """Tells whether a student of that cost is within the limits."""
        is_fast = self.max_ms is None or cost.milliseconds <= self.max_ms
        is_small = self.max_mb is None or cost.megabytes <= self.max_mb
        return is_fast and is_small


def list_candidates(request: Request, embedder: Embedder) -> list[Candidate]:
    """Lists the students of a ladder, small ones first: a table of tokens, then one to four layers.

    Where a student is too large, one of the tokens alone that the texts use is tried, and beside it one of narrower rows; where both are
    too large, one of few tokens and narrowest rows. Only some architectures can have narrower rows.

    Raises BadInput where the teacher cannot be cut, and no backbone was given.
    """
    spec = choose_student(request, embedder)
    specs: list[StudentFromTeacher | StudentFromBackbone]
    if isinstance(spec, StudentFromBackbone):
        backbone = spec.load_whole(embedder.maker)
        if not backbone.transformer.has_layers:
            return [Candidate(STATIC, spec)]
        config = backbone.backbone.config
        most = config.num_hidden_layers
        specs = [replace(spec, keep_layers=count) for count in range(1, min(MOST_LAYERS, most) + 1)]
    else:
        assert isinstance(embedder, LocalTeacher), "choose_student refuses other teachers without a backbone"
        config = embedder.towers.query.backbone.config
        most = max(1, config.num_hidden_layers - 1)
        specs = [StudentFromTeacher(count) for count in range(1, min(MOST_LAYERS, most) + 1)]
    candidates = [] if isinstance(spec, StudentFromBackbone) else [Candidate(STATIC, StaticStudent())]
    for count, whole in enumerate(specs, start=1):
        name = name_layers(count)
        pruned = Candidate(f"{name}, fewer tokens", replace(whole, vocabulary="used"), (name,))
        if config.model_type in NARROW_FAMILIES:
            narrow = Candidate(f"{name}, narrow rows", replace(whole, table_width=config.hidden_size // NARROW), (name,))
            both = replace(whole, vocabulary="used", table_width=config.hidden_size // NARROWEST)
            smallest = Candidate(f"{name}, smallest table", both, (name, narrow.name, pruned.name))
            candidates += [smallest, narrow]
        candidates += [pruned, Candidate(name, whole)]
    return candidates


def name_layers(count: int) -> str:
    """Names a student by its layers.

    >>> name_layers(1), name_layers(2)
    ('1 layer', '2 layers')
    """
    return "1 layer" if count == 1 else f"{count} layers"


def format_megabytes(value: float) -> str:
    """Formats megabytes with two digits that say something.

    >>> format_megabytes(46.9), format_megabytes(0.42)
    ('47', '0.42')
    """
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def measure_costs(candidates: Sequence[Candidate], data: RetrievalData, folder: Path) -> dict[str, Cost]:
    """Measures what each student costs, by name; they take turns on the dev queries, and need no training for it.

    Another table of words makes a student smaller, and hardly slower or faster: it has the time of the student that it stands for.
    One whose layers or tokens cannot be cut or rows made narrower, or whose texts use all tokens, is left out.

    Args:
        candidates: the students.
        data: what they would be trained on.
        folder: where they are exported to for a moment.

    Raises BadInput where none can be made.
    """
    data.setup("fit")
    sweep_temporaries(folder, EXPORTED, of_any_machine=True)
    queries = sample_queries(data.dev_texts)
    megabytes: dict[str, float] = {}
    tables: dict[str, torch.Size] = {}
    paths, in_pytorch = {}, []
    fault = BadInput("no student of this teacher can be made")
    for candidate in sorted(candidates, key=lambda candidate: len(candidate.instead_of)):  # whole ones first
        if candidate.instead_of and candidate.instead_of[0] not in megabytes:
            continue
        module = StudentModule(candidate.spec)
        try:
            module.prepare(data, load_start=False)  # nothing has to be fitted to be timed
        except BadInput as error:
            fault = error
            log.info(f"{candidate.name}: left out: {error}")
            continue
        encoder = module.encoder.eval()
        tables[candidate.name] = encoder.word_table.weight.shape
        if tables[candidate.name] in [tables.get(name) for name in candidate.instead_of]:
            continue  # all tokens are used: it is the whole one
        megabytes[candidate.name] = encoder.parameter_count() * BYTES / 1e6
        if not candidate.instead_of:
            with temporary_names(folder / EXPORTED) as (temporary, _):
                temporary.mkdir()
                path = open_exact_path(encoder, temporary / "student", queries)
            in_pytorch += [] if path else [encoder]
            paths[candidate.name] = path or pytorch_path(encoder)
    if not megabytes:
        raise fault
    with one_core(in_pytorch):
        latency = measure_query_latency(paths, queries)
    times = {name: measured["query_latency_ms_p50"] for name, measured in latency.items()}
    instead_of = {candidate.name: candidate.instead_of for candidate in candidates}
    return {name: Cost(times[(*instead_of[name], name)[0]], size) for name, size in megabytes.items()}
