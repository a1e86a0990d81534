"""Runs an exported student with ONNX Runtime, without importing torch or transformers, so that a server starts in under a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.encoders.long_texts import cut_long_texts
from distill.files.atomic import read_json
from distill.records import BadInput, one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL = "onnx/model.onnx"  # sentence-transformers expects the same path
QUANTISED = "onnx/model_qint8.onnx"
FP32 = "ONNX fp32"
MODELS = {FP32: MODEL, "ONNX int8": QUANTISED}  # files in the folder of a student by the name that results have for them
OUTPUT = "sentence_embedding"


class OnnxEncoder:
    """Encodes queries with an exported student; those of the fp32 model equal PyTorch's up to 1e-5.

    Args:
        folder: the `student` folder of an export.
        threads: number of cores for each query.
        model: file of the model in the folder.

    Raises:
        BadInput: the folder has no such model, or ONNX Runtime cannot read it.
    """

    def __init__(self, folder: str | Path, threads: int = 1, model: str = MODEL):
        import onnxruntime

        folder = Path(folder)
        if not (folder / model).is_file():
            raise BadInput(f"{folder / model}: no ONNX model here: install the extra `onnx` and run distill export")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else waiting threads would use the cores between queries
        try:
            self.session = onnxruntime.InferenceSession(str(folder / model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # errors of ONNX Runtime have no common class
            raise BadInput(f"{folder / model}: ONNX Runtime cannot read it ({one_line(error)}): export again into another folder") from None
        self.tokenizer = load_tokenizer(folder)
        self.max_length: int = (self.tokenizer.truncation or {})["max_length"]
        self.pad_id: int = (self.tokenizer.padding or {})["pad_id"]
        self.prompts: dict[str, str] = read_json(folder / "config_sentence_transformers.json", "prompts")["prompts"] or {}

    def encode(self, texts: str | Sequence[str], role: str = "query") -> np.ndarray:
        """Encodes a few texts in one batch: [N, D] float32, or [D] for a single text."""
        prompt = self.prompts.get(role) or ""
        batch = [texts] if isinstance(texts, str) else texts
        if not len(batch):
            return np.empty((0, self.session.get_outputs()[0].shape[-1]), np.float32)
        beginnings = cut_long_texts(self.tokenizer, [prompt + text for text in batch], self.max_length)
        rows = self.tokenizer.encode_batch(beginnings)
        ids = np.array([row.ids for row in rows], np.int64)  # [N, L]
        mask = np.array([row.attention_mask for row in rows], np.int64)  # [N, L]
        if not ids.shape[1]:  # no text has a token, and a model reads no sequence of length 0
            ids = np.full([len(rows), 1], self.pad_id, np.int64)
            mask = np.zeros_like(ids)
        vectors = self.session.run([OUTPUT], {"input_ids": ids, "attention_mask": mask})[0]
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_query(self, texts: str | Sequence[str]) -> np.ndarray:
        """Encodes queries: [N, D] float32, or [D] for a single query."""
        return self.encode(texts, "query")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads the tokenizer of a sentence-transformers folder, with truncation to its maximum length and padding on the right."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = read_json(folder / "tokenizer_config.json", "tokenizer settings")
    max_length = read_json(folder / "sentence_bert_config.json", "settings")["max_seq_length"]
    tokenizer.enable_truncation(max_length, direction=settings.get("truncation_side", "right"))
    pad = settings.get("pad_token") or settings["eos_token"]
    if isinstance(pad, dict):  # older releases of transformers write a token with its flags
        pad = pad["content"]
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    return tokenizer
