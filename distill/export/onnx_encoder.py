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

    `folder` is the `student` folder of an export, `threads` the cores that share a query, `model` the file in the folder.
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

    def encode(self, texts: Sequence[str], role: str = "query") -> np.ndarray:
        """Vectors [N, D] float32 of a handful of texts, in one batch."""
        prompt = self.prompts.get(role, "")
        rows = self.tokenizer.encode_batch([prompt + text for text in texts])
        tokens = {"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows]}
        return self.session.run([OUTPUT], {name: np.array(values, np.int64) for name, values in tokens.items()})[0]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a sentence-transformers folder, set to cut at its maximum length and to pad on the right."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = read_json(folder / "tokenizer_config.json", "tokenizer settings")
    pad = settings["pad_token"]
    pad = pad["content"] if isinstance(pad, dict) else pad  # older releases write a token with its flags
    max_length = read_json(folder / "sentence_bert_config.json", "settings")["max_seq_length"]
    tokenizer.enable_truncation(max_length, direction=settings.get("truncation_side", "right"))
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    return tokenizer
