"""Runs a student that is a table of tokens, with NumPy and the tokenizers package alone: without torch, transformers or a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.encoders.prompt_names import DOCUMENT_PROMPTS
from distill.encoders.static_rows import STATIC, TOKENIZER, WEIGHTS, join_rows, refuse_missing_rows
from distill.files.atomic import path_within, read_json, refuse_unreadable
from distill.records import BadInput, one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SETTINGS = "config_sentence_transformers.json"
NUMPY = "NumPy"  # what results call this way to serve a student
STANDARD = "sentence_transformers."  # the classes of its modules begin so
OTHERWISE = "read it with load_encoder"  # the end of messages about what needs torch
Step = Callable[[np.ndarray], np.ndarray]  # from vectors [N, D] to vectors [N, E]


class StaticEncoder:
    """Encodes texts with a static student, faster than any graph; its vectors equal those of `load_encoder` up to 1e-6.

    Args:
        folder: a student's folder, of `distill train`, sentence-transformers or model2vec, that begins with a table of tokens. Behind it
            may be layers (Dense without an activation, or with Tanh), LayerNorm and Normalize.

    Raises BadInput where the folder has another module, or a file in it is missing or damaged.

        student = StaticEncoder("runs/mine/student")
        vector = student.encode_query("how long does a cold last")  # [D]
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        with refuse_unreadable("a model folder", folder):
            entries = read_json(folder / "modules.json", "module list")
            kinds = [name_kind(entry["type"]) for entry in entries]
            paths = [path_within(folder, entry["path"]) for entry in entries]
            if kinds[:1] != [STATIC]:
                raise BadInput(
                    f"{folder}: begins with {kinds[0] if kinds else 'nothing'}, not with {STATIC}: {OTHERWISE}, or with OnnxEncoder"
                )
            self.rows = read_rows(paths[0])
            self.tokenizer = read_tokenizer(paths[0], len(self.rows))
            settings = read_json(folder / SETTINGS, "settings") if (folder / SETTINGS).exists() else {}
            self.prompts = read_prompts(settings)
            self.steps = [read_step(kind, path) for kind, path in zip(kinds[1:], paths[1:], strict=True)]
            self.steps += choose_scaling(folder, settings, is_unit=kinds[-1] == "Normalize")
            self.width = self._finish(self.rows[:1].astype(np.float32)).shape[1]

    def encode(self, texts: str | Sequence[str], role: str = "query") -> np.ndarray:
        """Encodes texts with the prompt of their role: [N, D] float32, or [D] for a single text."""
        prompt = self.prompts.get(role) or ""
        batch = [texts] if isinstance(texts, str) else texts
        if not len(batch):
            return np.empty((0, self.width), np.float32)
        means = np.stack([self._mean(prompt + text) for text in batch])  # [N, D]
        vectors = self._finish(means)
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_query(self, texts: str | Sequence[str]) -> np.ndarray:
        """Encodes queries: [N, D] float32, or [D] for a single query."""
        return self.encode(texts, "query")

    def encode_document(self, texts: str | Sequence[str]) -> np.ndarray:
        """Encodes documents: [N, D] float32, or [D] for a single document."""
        return self.encode(texts, "document")

    def _mean(self, text: str) -> np.ndarray:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        if not ids:
            return np.zeros(self.rows.shape[1], np.float32)
        # sums of the float32 rows of thousands of tokens would be inexact
        return self.rows[ids].mean(axis=0, dtype=np.float64).astype(np.float32)

    def _finish(self, vectors: np.ndarray) -> np.ndarray:
        for step in self.steps:
            vectors = step(vectors)
        return vectors


def read_prompts(settings: dict[str, Any]) -> dict[str, str]:
    """The prompt of each role, under the names that a folder may have them; no text for a role is none."""
    prompts = settings.get("prompts") or {}
    document = next((prompts[name] for name in DOCUMENT_PROMPTS if prompts.get(name)), None)
    by_role = {"query": prompts.get("query") or "", "document": document or ""}
    for role, prompt in by_role.items():
        if not isinstance(prompt, str):
            raise BadInput(f"prompts: {role}: {prompt!r} is no text: write it in quotes")
    return by_role


def is_static(folder: Path) -> bool:
    """Whether a folder holds an encoder that begins with a table of tokens."""
    path = folder / "modules.json"
    entries = read_json(path, "module list") if path.exists() else []
    return bool(entries) and name_kind(entries[0]["type"]) == STATIC


def name_kind(class_name: str) -> str:
    """The name of a class of sentence-transformers without its module, which differs between releases; others as they are."""
    return class_name.rsplit(".", 1)[-1] if class_name.startswith(STANDARD) else class_name


def read_rows(folder: Path) -> np.ndarray:
    """The table [V, D] float32 in a folder."""
    return join_rows(read_weights(folder), folder).astype(np.float32, copy=False)


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """The weights of a module by name."""
    from safetensors.numpy import load_file

    try:
        return load_file(folder / WEIGHTS)
    except Exception as error:  # of safetensors, or of a number format that NumPy has not
        raise BadInput(f"{folder / WEIGHTS}: missing, damaged, or of numbers that NumPy has not ({one_line(error)}): {OTHERWISE}") from None


def read_tokenizer(folder: Path, rows: int) -> Tokenizer:
    """The tokenizer in a folder, for a table of so many `rows`."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # errors of tokenizers have no common class
        raise BadInput(f"{folder / TOKENIZER}: missing, or no tokenizer ({one_line(error)}): restore it") from None
    tokenizer.no_padding()
    refuse_missing_rows(folder, tokenizer.get_vocab(with_added_tokens=True), rows)
    return tokenizer


def read_step(kind: str, folder: Path) -> Step:
    """What a module behind the table does to vectors."""
    if kind == "Normalize":
        return scale_to_one
    if kind == "Dense":
        return read_dense(folder)
    if kind == "LayerNorm":
        return read_norm(folder)
    raise BadInput(f"{folder}: its module is of the class {kind}: {OTHERWISE}")


def read_dense(folder: Path) -> Step:
    """A linear layer with its activation."""
    settings, weights = read_json(folder / "config.json", "settings of this Dense module"), read_weights(folder)
    activation = str(settings.get("activation_function", "torch.nn.Tanh")).rsplit(".", 1)[-1]
    if activation not in ("Identity", "Tanh") or settings.get("use_residual"):
        raise BadInput(f"{folder}: a Dense with {activation}, or with its residual: {OTHERWISE}")
    weight, bias = weights["linear.weight"].T.astype(np.float32), weights.get("linear.bias", np.float32(0))

    def apply(vectors: np.ndarray) -> np.ndarray:
        changed = vectors @ weight + bias
        return np.tanh(changed) if activation == "Tanh" else changed

    return apply


def read_norm(folder: Path) -> Step:
    """A layer normalisation with its weights."""
    weights = read_weights(folder)
    weight, bias = weights["norm.weight"], weights["norm.bias"]

    def apply(vectors: np.ndarray) -> np.ndarray:
        centred = vectors - vectors.mean(axis=1, keepdims=True)
        return centred / np.sqrt(centred.var(axis=1, keepdims=True) + np.float32(1e-5)) * weight + bias

    return apply


def scale_to_one(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, D] of length 1; those of length 0 stay.

    >>> scale_to_one(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), 1e-12)


def choose_scaling(folder: Path, settings: dict[str, Any], is_unit: bool) -> list[Step]:
    """What the settings of the whole model add behind its modules, so that inner products rank as it does."""
    if settings.get("truncate_dim") is not None:
        raise BadInput(f"{folder / SETTINGS}: truncate_dim: {settings['truncate_dim']}: {OTHERWISE}")
    similarity = settings.get("similarity_fn_name")
    if is_unit or similarity == "dot":
        return []
    if similarity not in (None, "cosine"):
        raise BadInput(f"{folder / SETTINGS}: similarity_fn_name: {similarity}: inner products rank otherwise: set it to cosine or dot")
    return [scale_to_one]
