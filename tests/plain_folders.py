"""Folders of random models as transformers saves them, with a tokenizer that writes no special tokens, and mean pooling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModel, PreTrainedTokenizerFast

from distill.encoders.folder import load_encoder

USUAL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "max_position_embeddings": 32}
T5 = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 3, "num_heads": 4, "initializer_factor": 2.0}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "initializer_range": 0.2}
BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SHORT = ["what is the best river", "garden"]
LONG = " ".join(["river music garden"] * 40)


def make_words(**specials: str) -> PreTrainedTokenizerFast:
    """A tokenizer of words that writes no special tokens of its own."""
    words = ["<pad>", "<s>", "</s>", "<unk>", "what", "is", "the", "best", "river", "music", "garden"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=["input_ids", "attention_mask"], **specials)


def save_folder(folder: Path, config, tokenizer=None, model_class=None, **limits) -> Path:
    """A folder of a random model with mean pooling."""
    torch.manual_seed(0)
    tokenizer = tokenizer or make_words(pad_token="<pad>", unk_token="<unk>")
    config.vocab_size = len(tokenizer)
    model = AutoModel.from_config(config) if model_class is None else model_class(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    kinds = ("Transformer", "Pooling")
    entries = [{"idx": i, "name": str(i), "path": ("", "1_Pooling")[i], "type": f"sentence_transformers.models.{kinds[i]}"} for i in (0, 1)]
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": model.config.hidden_size, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None, "do_lower_case": False} | limits))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {}, "similarity_fn_name": "dot"}))
    return folder


def rewrite_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_same_vectors(folder: Path, texts: list[str]) -> None:
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(load_encoder(str(folder)).encode_document(texts), expected, atol=1e-5)
