"""Tiny random models of several architectures, each with a tokenizer of its family's special tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import TOPICS, VOCABULARY, WORDS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
)

from distill.encoders.cross import ClsHead, CrossEncoder, CrossSettings, DualPooling
from distill.encoders.encoder import Encoder
from distill.encoders.modules import Dense, Normalize, Transformer
from distill.encoders.pooling import Pooling
from distill.encoders.tokenizing import TextSettings, no_prompts
from distill.encoders.transformer_folder import build_options

torch.set_num_threads(1)  # models this small spend more threads on waiting than on work

FAMILIES = ["bert", "xlm-roberta", "mpnet", "distilbert", "modernbert"]
POSITIONS, MAX_LENGTH = 40, 16
BERT_SPECIALS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
ROBERTA_SPECIALS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Word pieces between [CLS] and [SEP], or, for the RoBERTa line, whole words that begin with a space mark."""
    specials = ROBERTA_SPECIALS if family in ("xlm-roberta", "mpnet") else BERT_SPECIALS
    if family == "xlm-roberta":
        words = [*specials.values(), "▁", *(f"▁{word}" for word in TOPICS + WORDS)]
        core = Tokenizer(models.Unigram([(word, -1.0 - 0.01 * i) for i, word in enumerate(words)], unk_id=3))
        core.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        words = [*specials.values(), *VOCABULARY[5:]]
        core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token=specials["unk_token"]))
        core.normalizer = normalizers.BertNormalizer()
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    is_roberta = specials is ROBERTA_SPECIALS
    first, last = ("<s>", "</s>") if is_roberta else ("[CLS]", "[SEP]")
    ends = [(word, words.index(word)) for word in (first, last)]
    between = f"{last} {last}" if is_roberta else last
    side = ":1" if family in ("bert", "distilbert") else ""  # the token type of the second text
    pair = f"{first} $A {between} $B{side} {last}{side}"
    core.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", pair=pair, special_tokens=ends)
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if family == "bert" else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=inputs, model_max_length=MAX_LENGTH, **specials)


def make_config(family: str, vocabulary: int, layers: int, width: int):
    shape = {"vocab_size": vocabulary, "initializer_range": 0.2}
    usual = {**shape, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 2 * width}
    if family == "bert":
        return BertConfig(**usual, max_position_embeddings=POSITIONS)
    if family == "xlm-roberta":
        return XLMRobertaConfig(**usual, max_position_embeddings=POSITIONS + 2, type_vocab_size=1)
    if family == "mpnet":
        return MPNetConfig(**usual, max_position_embeddings=POSITIONS + 2, bos_token_id=0, pad_token_id=1, eos_token_id=2)
    if family == "distilbert":
        return DistilBertConfig(**shape, dim=width, n_layers=layers, n_heads=4, hidden_dim=2 * width, max_position_embeddings=POSITIONS)
    # a window smaller than the texts, so that local and global layers differ
    return ModernBertConfig(
        **usual,
        max_position_embeddings=POSITIONS,
        global_attn_every_n_layers=2,
        local_attention=4,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
    )


def make_encoder(
    family: str, pooling="mean", head: tuple[nn.Module, ...] | None = None, prompts=None, layers=4, width=16, seed=0, max_length=MAX_LENGTH
) -> Encoder:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(family)
    config = make_config(family, len(tokenizer), layers, width)
    backbone = AutoModel.from_config(config, **build_options(config)).eval()
    modules = [Transformer(backbone), Pooling(pooling), *([Normalize()] if head is None else head)]
    return Encoder(modules, tokenizer, TextSettings(max_length, prompts or no_prompts())).eval()


def make_dense(inputs: int, outputs: int, bias: bool = True, activation: str = "Identity", seed: int = 1) -> Dense:
    torch.manual_seed(seed)
    return Dense(inputs, outputs, bias, activation)


def make_cross(family: str, head: str = "dual_pooling", layers=2, width=16, seed=0, max_length=MAX_LENGTH, labels=1) -> CrossEncoder:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(family)
    settings = make_config(family, len(tokenizer), layers, width)
    if head == "cls":
        settings.num_labels = labels
        backbone = AutoModelForSequenceClassification.from_config(settings)
        return ClsHead(backbone.eval(), tokenizer, CrossSettings(max_length)).eval()
    backbone = AutoModel.from_config(settings, **build_options(settings))
    return DualPooling(backbone.eval(), tokenizer, CrossSettings(max_length)).eval()


def make_folder(folder: Path, family: str, **settings) -> Path:
    make_encoder(family, **settings).save_pretrained(folder)
    return folder
