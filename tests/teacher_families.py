"""Folders of random models of the families that teachers come from, each with the tokenizer class of its real folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from family_tokenizers import TOKENIZERS
from rotary.configuration_rotary import RotaryConfig
from rotary.modeling_rotary import RotaryModel
from transformers import AutoModel, PretrainedConfig, T5EncoderModel

from distill.encoders.encoder import Encoder
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.teachers.local import load_local_teacher
from distill.teachers.options import ModelOptions

WIDTH, LONGEST = 16, 48  # of a state; tokens of a text
MANY = "naïve 東京 🎉 مرحبا hello " * 2000  # 10,000 words
TEXTS = [
    "hello world",
    "the river " * 40,
    "word " * 10_000,
    MANY,
    "naïve 東京 🎉",
    "مرحبا بالعالم",
    "a\x00b",
    "one two three four five",
    "",
]
USUAL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "initializer_range": 0.2,
    "max_position_embeddings": 130,
}
DECODER: dict[str, Any] = {**USUAL, "num_key_value_heads": 2}
LAYERS = ["sliding_attention", "sliding_attention", "full_attention"]
GEMMA: dict[str, Any] = {**DECODER, "head_dim": 4, "sliding_window": 8, "layer_types": LAYERS}
T5: dict[str, Any] = {"d_model": WIDTH, "d_kv": 4, "d_ff": 32, "num_layers": 3, "num_heads": 4, "initializer_factor": 0.5}
DISTILBERT: dict[str, Any] = {"dim": WIDTH, "n_layers": 3, "n_heads": 4, "hidden_dim": 32, "initializer_range": 0.2}
DEBERTA: dict[str, Any] = {
    **{"relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
    **{"position_biased_input": False, "norm_rel_ebd": "layer_norm", "type_vocab_size": 0},
}


@dataclass(frozen=True)
class Family:
    """How a folder of a family is made.

    Attributes:
        example: a teacher of it that people use.
        tokenizer: its name among TOKENIZERS.
        config: makes its configuration, the size of the vocabulary and the numbers of special tokens left out.
        settings: of that configuration.
    """

    example: str
    tokenizer: str
    config: Callable[..., PretrainedConfig]
    settings: dict[str, Any]


FAMILIES = {
    "BERT": Family("bge, e5, gte, all-MiniLM", "BERT", transformers.BertConfig, USUAL),
    "RoBERTa": Family("all-roberta-large-v1", "RoBERTa", transformers.RobertaConfig, {**USUAL, "type_vocab_size": 1}),
    "XLM-RoBERTa": Family("bge-m3, multilingual-e5", "XLM-RoBERTa", transformers.XLMRobertaConfig, {**USUAL, "type_vocab_size": 1}),
    "MPNet": Family("all-mpnet-base-v2", "MPNet", transformers.MPNetConfig, USUAL),
    "DistilBERT": Family("msmarco-distilbert", "DistilBERT", transformers.DistilBertConfig, {**DISTILBERT, "max_position_embeddings": 130}),
    "ELECTRA": Family("any made from ELECTRA", "ELECTRA", transformers.ElectraConfig, {**USUAL, "embedding_size": 8}),
    "ALBERT": Family("paraphrase-albert-small-v2", "ALBERT", transformers.AlbertConfig, {**USUAL, "embedding_size": 8}),
    "DeBERTa-v2": Family("any made from DeBERTa-v3", "DeBERTa-v2", transformers.DebertaV2Config, {**USUAL, **DEBERTA}),
    "ModernBERT": Family(
        "gte-modernbert, modernbert-embed",
        "ModernBERT",
        transformers.ModernBertConfig,
        {**USUAL, "global_attn_every_n_layers": 3, "local_attention": 8},
    ),
    "NomicBERT": Family("nomic-embed, as transformers writes it", "BERT", transformers.NomicBertConfig, USUAL),
    "code of its own": Family("nomic-embed, gte-large-en-v1.5", "BERT", RotaryConfig, {}),
    "T5 encoder": Family("sentence-t5, gtr-t5", "T5", transformers.T5Config, T5),
    "Qwen2": Family("any made from Qwen2.5", "Qwen2", transformers.Qwen2Config, DECODER),
    "Qwen3": Family("Qwen3-Embedding", "Qwen3", transformers.Qwen3Config, {**DECODER, "head_dim": 4}),
    "Mistral": Family("e5-mistral, SFR-Embedding", "Llama 2", transformers.MistralConfig, {**DECODER, "sliding_window": 8}),
    "Llama": Family("any made from Llama 3", "Llama 3", transformers.LlamaConfig, DECODER),
    "Gemma 3": Family("any made from Gemma 3", "Gemma", transformers.Gemma3TextConfig, GEMMA),
    "Gemma 3, reading both ways": Family(
        "embeddinggemma-300m", "Gemma", transformers.Gemma3TextConfig, {**GEMMA, "use_bidirectional_attention": True}
    ),
}
OWN_CODE = "code of its own"  # the family that transformers does not have


def make_backbone(family: Family, tokenizer: Any) -> Any:
    """A random model for a tokenizer's vocabulary."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    specials = {name: getattr(tokenizer, name, None) for name in names}
    config = family.config(vocab_size=len(tokenizer), **family.settings, **specials)
    torch.manual_seed(0)
    make = {RotaryConfig: RotaryModel, transformers.T5Config: T5EncoderModel}.get(family.config, AutoModel.from_config)
    if make is RotaryModel:
        RotaryConfig.register_for_auto_class()
        RotaryModel.register_for_auto_class("AutoModel")
    backbone = make(config).eval()
    torch.nn.init.normal_(backbone.get_input_embeddings().weight, std=0.3)  # the row of padding too, with which some texts end
    return backbone


def write_teacher(folder: Path, name: str, pooling: Any = "mean", **settings: Any) -> str:
    """A folder of a family as sentence-transformers writes it, whose vectors have length 1; `settings` are of its tokenizer."""
    from sentence_transformers import SentenceTransformer, models

    family = FAMILIES[name]
    tokenizer = TOKENIZERS[family.tokenizer](model_max_length=LONGEST, **settings)
    make_backbone(family, tokenizer).save_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder / "plain")
    trust = {"trust_remote_code": name == OWN_CODE}
    options = dict.fromkeys(("model_kwargs", "config_kwargs", "processor_kwargs"), trust)
    transformer = models.Transformer(str(folder / "plain"), max_seq_length=LONGEST, **options)
    parts = [transformer, models.Pooling(WIDTH, pooling_mode=pooling), models.Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    tokenizer.save_pretrained(folder / "model")  # under the class that real folders name, which transformers may read as another
    return str(folder / "model")


def cut_student(folder: str, trust: bool = False, layers: int = 2) -> Encoder:
    """Some of a teacher's layers, as a student."""
    teacher = load_local_teacher(folder, "fp32", ModelOptions(trust_remote_code=trust))
    return StudentFromTeacher(layers).make_student(TeacherSpace(teacher.maker, teacher.width, normalized=True)).eval()
