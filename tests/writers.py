"""Small sequence-to-sequence models with random weights, of the architectures that generators are made of."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import VOCABULARY
from transformers import BartConfig, BartForConditionalGeneration, BertTokenizerFast, PreTrainedModel, T5Config, T5ForConditionalGeneration

PAD, CLS, SEP = (VOCABULARY.index(token) for token in ("[PAD]", "[CLS]", "[SEP]"))


def make_bart() -> PreTrainedModel:
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
    special = {"pad_token_id": PAD, "bos_token_id": CLS, "eos_token_id": SEP, "decoder_start_token_id": SEP, "forced_eos_token_id": None}
    return BartForConditionalGeneration(BartConfig(vocab_size=len(VOCABULARY), **sizes, **widths, **special))


def make_t5() -> PreTrainedModel:
    sizes = {"num_layers": 2, "num_heads": 4, "d_model": 32, "d_kv": 8, "d_ff": 64}
    special = {"pad_token_id": PAD, "eos_token_id": SEP, "decoder_start_token_id": PAD}
    return T5ForConditionalGeneration(T5Config(vocab_size=len(VOCABULARY), **sizes, **special))


def make_writer(folder: Path, kind: str) -> Path:
    """Writes a plain transformers folder of a `bart` or a `t5`."""
    torch.manual_seed(0)
    words = {word: number for number, word in enumerate(VOCABULARY)}
    BertTokenizerFast(vocab=words, model_max_length=64).save_pretrained(folder)
    model = make_bart() if kind == "bart" else make_t5()
    model.save_pretrained(folder)
    return folder
