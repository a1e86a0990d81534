"""Random sentence-transformers folders, and what this package and sentence-transformers make of them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from families import FAMILIES, make_dense, make_encoder
from folder_settings import ABSENT, FILES, NEW, SETTINGS_NAMES
from safetensors.torch import load_file, save_file

from distill.encoders.modules import Normalize
from distill.encoders.towers import Towers, load_towers
from distill.records import BadInput

TEXTS = ["What is the best river", "garden", "", "how to find a large old engine near the market", " ".join(["small planet letter"] * 20)]
ROLES = ("query", "document")
UNREAD = "sentence-transformers cannot read it"
OLD = "sentence_transformers.models"


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def set_key(folder: Path, file: str, key: str, value: Any) -> None:
    """Sets, or takes out, one key of a file of the folder, where the folder has that file."""
    if (folder / file).exists():
        rewrite(folder / file, lambda old: {k: v for k, v in {**old, key: value}.items() if v is not ABSENT})


def change_types(folder: Path, old: str, new: str) -> None:
    rewrite(folder / "modules.json", lambda entries: [{**entry, "type": entry["type"].replace(old, new)} for entry in entries])


def rename_settings(folder: Path, choice: random.Random) -> None:
    (folder / SETTINGS_NAMES[0]).rename(folder / choice.choice(SETTINGS_NAMES[1:]))
    if choice.random() < 0.5:
        (folder / SETTINGS_NAMES[0]).write_text("{}")  # an empty one counts as none


def drop_model_settings(folder: Path, choice: random.Random) -> None:
    (folder / "config_sentence_transformers.json").unlink()


def drop_settings(folder: Path, choice: random.Random) -> None:
    (folder / "sentence_bert_config.json").unlink(missing_ok=True)


def use_pickles(folder: Path, choice: random.Random) -> None:
    for path in folder.rglob("model.safetensors"):
        name = "pytorch_model.bin"
        torch.save(load_file(path), path.with_name(name))
        if path.parent != folder or choice.random() < 0.5:
            path.unlink()


def add_adapter(folder: Path, choice: random.Random) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder)}))


def add_head_weights(folder: Path, choice: random.Random) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "cls.predictions.bias": torch.zeros(3)}, folder / "model.safetensors", metadata={"format": "pt"})


def change_modules(folder: Path, choice: random.Random) -> None:
    """Repeats, drops, moves or replaces a module, or gives two of them one name."""

    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        way, last = choice.randrange(6), dict(entries[-1])
        if way == 0:
            return entries[:-1]
        if way == 1:
            return [*entries, {**last, "name": "again"}]
        if way == 2:
            return [*entries, {**last, "path": "9_Dropout", "name": "9", "type": f"{OLD}.Dropout"}]
        if way == 3:
            return [*entries[:2], *reversed(entries[2:])]
        if way == 4:
            return [*entries[:-1], {**last, "name": entries[0]["name"]}]
        return [{**entry, "kwargs": ["task"], "idx": 7} for entry in entries]

    rewrite(folder / "modules.json", change)
    dropout = folder / "9_Dropout"
    dropout.mkdir(exist_ok=True)
    (dropout / "config.json").write_text('{"dropout": 0.5}')


def use_new_types(folder: Path, choice: random.Random) -> None:
    change_types(folder, OLD, NEW)


def use_types_of_others(folder: Path, choice: random.Random) -> None:
    kind = choice.choice(["Transformer", "Pooling", "Dense", "Normalize"])
    change_types(folder, f"{OLD}.{kind}", f"{choice.choice(['pylate.models', 'custom_st', 'sentence_transformersx'])}.{kind}")


def set_token_types(folder: Path, choice: random.Random) -> None:
    """Gives the tokens of a single text a type other than 0."""

    def change(tokenizer: dict[str, Any]) -> dict[str, Any]:
        for part in tokenizer["post_processor"]["single"]:
            next(iter(part.values()))["type_id"] = 1
        return tokenizer

    rewrite(folder / "tokenizer.json", change)


def set_fixed_lengths(folder: Path, choice: random.Random) -> None:
    """Leaves a fixed truncation and padding in the tokenizer's file, as some programs do."""
    truncation = {"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 12},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    rewrite(folder / "tokenizer.json", lambda old: {**old, "truncation": truncation, "padding": padding})


SHAPES = [
    rename_settings,
    drop_model_settings,
    drop_settings,
    use_pickles,
    add_adapter,
    add_head_weights,
    change_modules,
    use_new_types,
    use_types_of_others,
    set_token_types,
    set_fixed_lengths,
]


@cache
def base_encoder(number: int) -> Any:
    """One of several encoders, which every folder is a changed copy of."""
    choice = random.Random(number)
    dense = make_dense(16, 16, activation=choice.choice(["Identity", "Tanh"]))
    head: list[Any] = choice.choice([[dense, Normalize()], [dense], [Normalize()], []])
    prompts = choice.choice([None, {"query": "find ", "document": "letter "}])
    family = FAMILIES[number % len(FAMILIES)]
    return make_encoder(family, choice.choice(["mean", "cls"]), head, prompts, layers=2, seed=number)


def make_random_folder(folder: Path, seed: int) -> str:
    """Writes a folder with one to three of its settings changed at random; returns what was changed."""
    choice = random.Random(seed)
    number = choice.randrange(10)
    encoder = base_encoder(number)
    if choice.random() < 0.1:
        Towers(encoder, make_encoder("bert", head=[make_dense(16, encoder.width)], layers=2, seed=5)).save_pretrained(folder)
        return f"{seed}: two towers, {change_router(folder, choice)}"
    base = folder.parent / f"base-{number}"
    if not base.exists():
        encoder.save_pretrained(base)
    shutil.copytree(base, folder)
    if choice.random() < 0.5:  # the keys that release 6 writes
        set_key(folder, "sentence_bert_config.json", "modality_config", FILES["sentence_bert_config.json"]["modality_config"][0])
        set_key(folder, "sentence_bert_config.json", "module_output_name", "token_embeddings")
    done = [encoder.backbone.config.model_type]
    for _ in range(choice.choice([1, 1, 2, 3])):
        if choice.random() < 0.25:
            shape = choice.choice(SHAPES)
            done.append(shape.__name__)
            try:
                shape(folder, choice)
            except FileNotFoundError:
                done[-1] += " (not here)"
            continue
        file = choice.choice([name for name in FILES if (folder / name).exists()])
        key = choice.choice(list(FILES[file]))
        value = choice.choice(FILES[file][key])
        set_key(folder, file, key, value)
        done.append(f"{file}: {key}: {'taken out' if value is ABSENT else value!r}")
    return f"{seed}: {', '.join(done)}"


def change_router(folder: Path, choice: random.Random) -> str:
    """Changes the settings of two towers."""
    way = choice.randrange(6)
    if way == 0:
        mappings = {"('query', None)": "document", "('document', None)": "query"}
        rewrite(folder / "router_config.json", lambda old: {**old, "parameters": {**old["parameters"], "route_mappings": mappings}})
        return "routes exchanged"
    if way == 1:
        entry = {"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{OLD}.Normalize"}
        rewrite(folder / "modules.json", lambda old: [*old, entry])
        (folder / "1_Normalize").mkdir()
        (folder / "1_Normalize" / "config.json").write_text("{}")
        return "a module behind the router"
    if way == 2:
        rewrite(folder / "router_config.json", lambda old: {**old, "structure": {**old["structure"], "image": old["structure"]["query"]}})
        return "a third route"
    if way == 3:
        set_key(folder, "config_sentence_transformers.json", "similarity_fn_name", "cosine")
        return "cosine"
    if way == 4:
        rewrite(folder / "router_config.json", lambda old: json.loads(json.dumps(old).replace(f"{OLD}.Pooling", "custom_st.Pooling")))
        return "a module of another package"
    return "as they are"


def compare(folder: Path) -> str:
    """`same`, `refused`, that sentence-transformers cannot read it, or how this package and sentence-transformers differ on a folder."""
    from sentence_transformers import SentenceTransformer

    try:
        ours = load_towers(str(folder))
    except BadInput as error:
        assert "\n" not in str(error), error
        return "refused"
    got = {role: ours.encode(TEXTS, role).numpy() for role in ROLES}
    try:
        theirs = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
        expected = {"query": theirs.encode_query(TEXTS), "document": theirs.encode_document(TEXTS)}
    except Exception as error:  # of any kind, where it cannot read the folder
        return f"{UNREAD}: {type(error).__name__}: {error}"[:300]
    return compare_vectors(got, expected, theirs.similarity_fn_name == "cosine")


def compare_vectors(got: dict[str, np.ndarray], expected: dict[str, np.ndarray], by_cosine: bool) -> str:
    """`same`, or how far the vectors of each role differ; those compared by cosine may have other lengths."""
    for role in ROLES:
        vectors = expected[role]
        if by_cosine:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        if got[role].shape != vectors.shape:
            return f"{role}: {got[role].shape}, sentence-transformers {vectors.shape}"
        difference = float(np.abs(got[role] - vectors).max())
        if not difference <= 1e-5:
            return f"{role}: differs by {difference}"
    return "same"


def try_seed(folder: Path, seed: int) -> tuple[str, str]:
    """What was changed in the folder of a seed, and the outcome."""
    changed = make_random_folder(folder, seed)
    outcome = compare(folder)
    shutil.rmtree(folder)
    return changed, outcome
