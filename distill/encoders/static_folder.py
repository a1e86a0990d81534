"""Writes and reads a `TokenTable` and its tokenizer as sentence-transformers' module StaticEmbedding, and reads those of model2vec."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from distill.encoders.model_options import Weights
from distill.encoders.static_rows import ROWS, TOKENIZER, WEIGHTS, join_rows, refuse_missing_rows
from distill.encoders.token_table import TokenTable
from distill.encoders.transformer_folder import UNLIMITED, first_line
from distill.encoders.weights import choose_format, refuse_too_large
from distill.records import BadInput

OLD_WEIGHTS = "pytorch_model.bin"


def make_plain_tokenizer(core: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer that cuts texts as `core` does, without the special tokens around them, as a mean would count these too."""
    plain = Tokenizer.from_str(core.to_str())
    plain.post_processor = None
    plain.no_padding()
    plain.no_truncation()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)
    tokenizer.pad_token = plain.id_to_token(min(plain.get_vocab().values()))  # any token will do, as padding is masked
    return tokenizer


def write_table(table: TokenTable, tokenizer: PreTrainedTokenizerFast, max_length: int, folder: Path) -> None:
    """Writes the folder of a StaticEmbedding, whose tokenizer cuts texts where they have a longest length."""
    folder.mkdir(parents=True)
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    core.no_padding()
    core.no_truncation()
    if max_length < UNLIMITED:
        core.enable_truncation(max_length, direction=tokenizer.truncation_side)
    core.save(str(folder / TOKENIZER))
    save_file({ROWS: table.table.weight.detach().contiguous()}, folder / WEIGHTS)


def read_table(folder: Path, weights: Weights = "fp32", asked: int | None = None) -> tuple[TokenTable, PreTrainedTokenizerFast, int]:
    """A table, its tokenizer and the tokens at which texts are cut.

    Args:
        folder: of a StaticEmbedding, as sentence-transformers or model2vec writes it.
        weights: number format of the rows, as `choose_format` has it.
        asked: tokens at which to cut texts; by default as the folder has it.

    Raises BadInput where a file is missing or damaged, does not fit into memory, or where a token has no row.
    """
    core, rows = read_tokenizer(folder), _read_rows(folder, weights)
    refuse_missing_rows(folder, core.get_vocab(with_added_tokens=True), len(rows))
    tokenizer = make_plain_tokenizer(core)
    truncation = core.truncation or {}
    tokenizer.truncation_side = truncation.get("direction", "right")
    if asked is not None and asked < 1:
        raise BadInput(f"max_length: {asked}: must be from 1 on, the tokens that {folder} reads")
    return TokenTable(rows), tokenizer, asked or truncation.get("max_length") or UNLIMITED


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder."""
    try:
        return Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # errors of tokenizers have no common class
        raise BadInput(f"{folder / TOKENIZER}: missing, or no tokenizer ({first_line(error)}): restore it") from None


def _read_rows(folder: Path, format_name: Weights) -> torch.Tensor:
    is_old = not (folder / WEIGHTS).exists() and (folder / OLD_WEIGHTS).exists()
    try:
        dtype = choose_format(folder, format_name)
        refuse_too_large(folder, dtype)
        weights = torch.load(folder / OLD_WEIGHTS, map_location="cpu", weights_only=True) if is_old else load_file(folder / WEIGHTS)
        if ROWS in weights:
            return weights[ROWS].to(dtype)
        arrays = {name: (part.float() if part.is_floating_point() else part).numpy() for name, part in weights.items()}
        return torch.from_numpy(join_rows(arrays, folder)).to(dtype)
    except BadInput:
        raise
    except Exception as error:  # of torch, of safetensors, of unpickling; or rows that a mapping names and there are not
        raise BadInput(f"{folder}: the weights of this StaticEmbedding are missing or broken: {first_line(error)}") from None
