"""An exported student through ONNX Runtime. Neither torch nor transformers is imported: a server starts in a fraction of a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.files.atomic import read_json
from distill.records import BadInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL = "onnx/model.onnx"  # where sentence-transformers looks for it too
OUTPUT = "sentence_embedding"


class OnnxEncoder:
    """Query vectors of an exported student, the same as PyTorch's to 1e-5.

    Args:
        folder: the `student` folder of an export.
        threads: cores that share a query.
        model: file of the model in the folder.

    Raises BadInput when the folder has no such model.
    """

    def __init__(self, folder: str | Path, threads: int = 1, model: str = MODEL):
        import onnxruntime

        folder = Path(folder)
        if not (folder / model).is_file():
            raise BadInput(f"{folder / model}: no ONNX model here: install the extra `onnx` and run distill export")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle cores are free for other work between queries
        self.session = onnxruntime.InferenceSession(str(folder / model), options, providers=["CPUExecutionProvider"])
        self.tokenizer = load_tokenizer(folder)
        self.prompts: dict[str, str] = read_json(folder / "config_sentence_transformers.json", "prompts")["prompts"]

    def encode(self, texts: str | Sequence[str], role: str = "query") -> np.ndarray:
        """Vectors [N, D] float32 of a handful of texts, in one batch, or the vector [D] of a single text."""
        prompt = self.prompts.get(role, "")
        rows = self.tokenizer.encode_batch([prompt + text for text in ([texts] if isinstance(texts, str) else texts)])
        ids = np.array([row.ids for row in rows], np.int64)  # [N, L]
        mask = np.array([row.attention_mask for row in rows], np.int64)  # [N, L]
        vectors = self.session.run([OUTPUT], {"input_ids": ids, "attention_mask": mask})[0]
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_query(self, texts: str | Sequence[str]) -> np.ndarray:
        """Vectors [N, D] float32 of queries, or of a single query [D]."""
        return self.encode(texts, "query")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a sentence-transformers folder, set to cut at its maximum length and to pad on the right."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = read_json(folder / "tokenizer_config.json", "tokenizer settings")
    max_length = read_json(folder / "sentence_bert_config.json", "settings")["max_seq_length"]
    tokenizer.enable_truncation(max_length, direction=settings.get("truncation_side", "right"))
    pad = settings["pad_token"]
    if isinstance(pad, dict):  # older releases write a token with its flags
        pad = pad["content"]
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    return tokenizer
