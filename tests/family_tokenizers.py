"""Small tokenizers of the classes that the folders of real models name, each over a vocabulary that is written here, not trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = ["hello", "world", "the", "river", "one", "two", "three", "four", "five", "word", "rivers", "東京"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *"ïاب"]
BYTES = [f"<0x{value:02X}>" for value in range(256)]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>"]
TEXT_END = "<|endoftext|>"


def number(tokens: Iterable[str]) -> dict[str, int]:
    """Ids of tokens, each once, in their order."""
    return {token: place for place, token in enumerate(dict.fromkeys(tokens))}


def make_merges(marked: str) -> list[tuple[str, str]]:
    """The merges of a BPE that builds every word of WORDS from the left, `marked` standing for the space before it."""
    words = [pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(word)[0][0] if marked == "Ġ" else word for word in WORDS]
    pairs = [((marked + word)[:place], (marked + word)[place]) for word in words for place in range(1, len(word) + 1)]
    return list(dict.fromkeys(pairs))


def make_pieces(specials: list[str], last: list[str] | None = None) -> list[tuple[str, float]]:
    """A Unigram's pieces with their scores: special tokens, letters, words, and those that come last."""
    pieces = ["▁", *LETTERS, *(f"▁{word}" for word in WORDS), "ver", "ing", "s"]
    scored = [(piece, -1.0 - 0.1 * place) for place, piece in enumerate(dict.fromkeys(pieces))]
    return [*((token, 0.0) for token in specials), *scored, *((token, 0.0) for token in last or [])]


def make_word_pieces(specials: list[str]) -> dict[str, int]:
    """WordPiece's tokens: special ones, letters, their continuations, and words."""
    return number([*specials, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS, "##ver", "##s"])


def make_byte_pairs(first: list[str], last: list[str]) -> dict[str, Any]:
    """A BPE over bytes: its tokens between special ones that come first and last, and its merges."""
    merges = make_merges("Ġ")
    tokens = [*first, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges), *last]
    return {"vocab": number(tokens), "merges": merges}


def make_marked_pairs(specials: list[str]) -> dict[str, Any]:
    """A BPE over characters, with bytes for those it lacks: its tokens behind special ones, and its merges."""
    merges = make_merges("▁")
    return {"vocab": number([*specials, *BYTES, "▁", *LETTERS, "東", "京", *("".join(pair) for pair in merges)]), "merges": merges}


def make_template(core: Tokenizer, first: str, last: str) -> Any:
    """The template that puts `first` before a text and `last` behind it; either may be empty."""
    ends = [(token, core.token_to_id(token)) for token in (first, last) if token]
    return processors.TemplateProcessing(single=f"{first} $A {last}".split(), special_tokens=ends)


def make_qwen3(**settings: Any) -> PreTrainedTokenizerFast:
    """Qwen's tokenizer, whose template puts a token behind a text, as that of Qwen3-Embedding does."""
    tokenizer = transformers.Qwen2TokenizerFast(**make_byte_pairs([], [TEXT_END]), **settings)
    tokenizer.backend_tokenizer.post_processor = make_template(tokenizer.backend_tokenizer, "", TEXT_END)
    return tokenizer


def make_plain(first: str, last: str, pairs: dict[str, Any], **settings: Any) -> PreTrainedTokenizerFast:
    """A byte BPE of no class of its own, as the folders of ModernBERT and Llama 3 have it."""
    core = Tokenizer(models.BPE(**pairs))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    core.post_processor = make_template(core, first, last)
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=["input_ids", "attention_mask"], **settings)


def make_modernbert(**settings: Any) -> PreTrainedTokenizerFast:
    specials = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), BERT, strict=True))
    return make_plain("[CLS]", "[SEP]", make_byte_pairs([], BERT), **specials, **settings)


def make_llama3(**settings: Any) -> PreTrainedTokenizerFast:
    """Llama 3's, in which a token begins a text and none ends it."""
    first, last = "<|begin_of_text|>", "<|end_of_text|>"
    specials = {"bos_token": first, "eos_token": last, "pad_token": last}
    return make_plain(first, "", make_byte_pairs([], [first, last]), **specials | settings)


def use(name: str, **fixed: Any) -> Callable[..., PreTrainedTokenizerFast]:
    """Makes a tokenizer of the class `name` of transformers when it is called with further settings."""
    return lambda **settings: getattr(transformers, name)(**fixed, **settings)


ENDS = {"add_bos_token": True, "add_eos_token": True}  # a token begins a text and one ends it
TOKENIZERS: dict[str, Callable[..., PreTrainedTokenizerFast]] = {
    "BERT": use("BertTokenizerFast", vocab=make_word_pieces(BERT)),
    "DistilBERT": use("DistilBertTokenizerFast", vocab=make_word_pieces(BERT)),
    "ELECTRA": use("ElectraTokenizerFast", vocab=make_word_pieces(BERT)),
    "MPNet": use("MPNetTokenizerFast", vocab=make_word_pieces([*ROBERTA[:3], "[UNK]", "<mask>"])),
    "RoBERTa": use("RobertaTokenizerFast", **make_byte_pairs(ROBERTA, ["<mask>"])),
    "XLM-RoBERTa": use("XLMRobertaTokenizerFast", vocab=make_pieces(ROBERTA, ["<mask>"])),
    "ALBERT": use("AlbertTokenizerFast", vocab=make_pieces(["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"])),
    "DeBERTa-v2": use("DebertaV2TokenizerFast", vocab=make_pieces(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], ["[MASK]"])),
    "T5": use("T5TokenizerFast", vocab=make_pieces(["<pad>", "</s>", "<unk>"], ["<extra_id_1>", "<extra_id_0>"]), extra_ids=2),
    "ModernBERT": make_modernbert,
    "Qwen2": use("Qwen2TokenizerFast", **make_byte_pairs([], [TEXT_END]), add_eos_token=True),
    "Qwen3": make_qwen3,
    "Llama 2": use("LlamaTokenizerFast", **make_marked_pairs(["<unk>", "<s>", "</s>"]), **ENDS, pad_token="</s>"),
    "Llama 3": make_llama3,
    "Gemma": use("GemmaTokenizerFast", **make_marked_pairs(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]), **ENDS),
}
