"""A Python function from texts to vectors or from pairs to scores, or an object that has such functions, as a teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from distill.encoders.maker import Maker
from distill.encoders.model_settings import scale_functions
from distill.encoders.tokenizing import Role
from distill.files.fingerprints import fingerprint
from distill.files.progress import log
from distill.records import BadInput
from distill.teachers.embedder import Progress

TEXTS_PER_CALL = 256

TextFunction = Callable[[list[str]], Any]  # from N texts to vectors [N, D]: an array, a tensor or lists of numbers


PairFunction = Callable[[list[tuple[str, str]]], Any]  # from N pairs (query, document) to N scores
LARGEST_SCORE = 65_504.0  # of float16, in which stores keep numbers


class EncodesTexts(Protocol):
    """An object with a function for each role; a SentenceTransformer is one."""

    def encode_query(self, texts: list[str]) -> Any: ...

    def encode_document(self, texts: list[str]) -> Any: ...


class FunctionTeacher:
    """Python functions that turn texts into vectors.

    A function has no fingerprint, so the store identifies it by `name` and `prompts`. A second call with the same name keeps the vectors
    that are written already, and embeds a few of these texts again: give a changed function a new name.

    Args:
        functions: function of each role, from N texts to vectors [N, D].
        name: name of the functions in the store.
        prompts: text put before every query and document.
        width: numbers in a vector; None measures it by encoding one word.

    >>> teacher = FunctionTeacher(text_functions(lambda texts: [[len(text), 1] for text in texts]), "lengths")
    >>> teacher.embed(teacher.prepare(["a", "three"], "query"), "query", print)
    2
    array([[1., 1.],
           [5., 1.]], dtype=float32)
    """

    def __init__(self, functions: Mapping[Role, TextFunction], name: str, prompts: dict[str, str] | None = None, width: int | None = None):
        self.functions, self.prompts = functions, prompts or {}
        self.maker = Maker(name, fingerprint("function", name, self.prompts), origin="function", prompts=prompts)
        self._width = width

    @property
    def width(self) -> int:
        if self._width is None:
            self._width = self._call(["width"], "document").shape[1]
        return self._width

    @property
    def where(self) -> str:
        return f"by the function {self.maker.name}"

    def prepare(self, texts: Sequence[str], role: Role) -> list[str]:
        """Puts the prompt before each text."""
        return [self.prompts.get(role, "") + text for text in texts]

    def embed(self, prepared: Sequence[str], role: Role, progress: Progress) -> np.ndarray:
        """Returns the vectors [N, D] float32 of N prompted texts."""
        vectors = [np.empty((0, self.width), np.float32)]
        for start in range(0, len(prepared), TEXTS_PER_CALL):
            vectors.append(self._call(list(prepared[start : start + TEXTS_PER_CALL]), role))
            progress(len(vectors[-1]))
        return np.concatenate(vectors)

    def _call(self, texts: list[str], role: Role) -> np.ndarray:
        """Calls the function of a role: [N, D] float32; refuses a result without one vector for each text, or of another width."""
        vectors = as_float32(self.functions[role](texts))
        if vectors.ndim != 2 or len(vectors) != len(texts) or self._width not in (None, vectors.shape[1]):
            wanted = f"[{len(texts)}, {self._width or 'D'}]"
            raise BadInput(f"{self.maker.name}: returned {list(vectors.shape)} numbers for {len(texts)} texts: it has to return {wanted}")
        return vectors


class PairFunctionTeacher:
    """A Python function that scores pairs of a query and a document; its name identifies it, as of a `FunctionTeacher`.

    Args:
        function: from N pairs (query, document) to N scores.
        name: name of the function in the store.

    >>> teacher = PairFunctionTeacher(lambda pairs: [len(query) * len(document) for query, document in pairs], "lengths")
    >>> teacher.embed([("a", "three"), ("of", "a")], "query", print)
    2
    array([[5.],
           [2.]], dtype=float32)
    """

    width = 1

    def __init__(self, function: PairFunction, name: str):
        self.function, self._warned = function, False
        self.maker = Maker(name, fingerprint("function of pairs", name), origin="function")

    @property
    def where(self) -> str:
        return f"by the function {self.maker.name}"

    def prepare(self, texts: Sequence[tuple[str, str]], role: Role) -> list[tuple[str, str]]:
        """Leaves the pairs as they are."""
        return list(texts)

    def embed(self, prepared: Sequence[tuple[str, str]], role: Role, progress: Progress) -> np.ndarray:
        """Scores N pairs: [N, 1] float32."""
        scores = np.empty((len(prepared), 1), np.float32)
        for start in range(0, len(prepared), TEXTS_PER_CALL):
            pairs = list(prepared[start : start + TEXTS_PER_CALL])
            found = as_float32(self.function(pairs))
            if found.size != len(pairs) or not (np.abs(found) < LARGEST_SCORE).all():
                wanted = f"{len(pairs)} numbers below {LARGEST_SCORE:g}, a score for each"
                raise BadInput(f"{self.maker.name}: returned {list(found.shape)} numbers for {len(pairs)} pairs: it has to return {wanted}")
            scores[start : start + len(pairs)] = found.reshape(-1, 1)
            self._warn_of_ties(pairs, found.reshape(-1))
            progress(len(pairs))
        return scores

    def _warn_of_ties(self, pairs: list[tuple[str, str]], scores: np.ndarray) -> None:
        """Warns once where scores of one query differ as they were given, and not as stores keep them, in float16."""
        for query in dict.fromkeys(query for query, _ in pairs):
            own = scores[[row for row, pair in enumerate(pairs) if pair[0] == query]]
            if not self._warned and len(np.unique(own.astype(np.float16))) < len(np.unique(own)):
                self._warned = True
                fix = "subtract what they have in common, or scale them"
                log.warning(f"{self.maker.name}: scores of one query that differ by less than float16 tells are stored as equal: {fix}")


def text_functions(model: Any) -> dict[Role, TextFunction]:
    """Returns the function of each role of a model of texts.

    Args:
        model: an object with `encode_query` and `encode_document`; an object with `encode`; or a plain function.

    Raises:
        BadInput: `model` is none of these.
    """
    query, document = getattr(model, "encode_query", None), getattr(model, "encode_document", None)
    if callable(query) and callable(document):
        return scale_functions(model, {"query": query, "document": document})
    if callable(encode := getattr(model, "encode", None)):
        if any((getattr(model, "prompts", None) or {}).values()):
            fix = "take its version with encode_query, or a function that puts them before the texts"
            raise BadInput(f"{type(model).__name__}: has prompts, and no encode_query to put them before queries: {fix}")
        return scale_functions(model, {"query": encode, "document": encode})
    if callable(model):
        return {"query": model, "document": model}
    raise BadInput(f"{model!r:.80}: no model of texts: give a folder, a function from texts to vectors or an object with encode")


def as_float32(vectors: Any) -> np.ndarray:
    """Converts an array, a tensor on any device, or lists of numbers, to a float32 array."""
    if isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().float().cpu().numpy()
    try:
        return np.asarray(vectors, np.float32)
    except (ValueError, TypeError) as error:  # lists of different lengths, or no numbers
        raise BadInput(f"the teacher's function returned no table of numbers: {error}") from None
