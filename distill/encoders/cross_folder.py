"""Cross encoders to and from disk.

A [CLS] one is a folder of `AutoModelForSequenceClassification`, which is also what sentence-transformers' CrossEncoder reads. A dual-pooled
one is a plain transformers folder with its settings in `cross_encoder.json`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers.utils import logging

from distill.encoders.cross import ClsHead, CrossEncoder, CrossSettings, DualPooling, Head
from distill.encoders.folder import SCORER, load_transformer, local_folder, longest_text, optional_json
from distill.files.atomic import path_within, refuse_unreadable, write_atomically, write_json
from distill.records import BadInput

SETTINGS = "cross_encoder.json"
# sentence-transformers would squash a single score otherwise
AS_LOGITS = {"activation_fn": "torch.nn.modules.linear.Identity"}


def load_cross_encoder(name: str) -> CrossEncoder:
    """Loads a cross encoder from a folder of ours, of sentence-transformers or of transformers, or a hub name, in float32 on the CPU.

    Raises BadInput where the folder does not score pairs: it embeds single texts, or tells three classes apart.
    """
    folder = local_folder(name)
    return new_cross_encoder(name, "dual_pooling" if is_dual_pooled(folder) else "cls", new_head=False)


def new_cross_encoder(
    name: str, head: Head, max_length: int | None = None, temperature: float | None = None, new_head: bool = True
) -> CrossEncoder:
    """A cross encoder to train, out of any transformer: an encoder's folder, a cross encoder's, a plain one or a hub name.

    `max_length` and `temperature` take the place of the folder's own. A [CLS] head that the folder lacks is made of random numbers,
    or refused where `new_head` is False.
    """
    with refuse_unreadable("a model folder", name):
        return _new(name, head, max_length, temperature, new_head)


def _new(name: str, head: Head, max_length: int | None, temperature: float | None, new_head: bool) -> CrossEncoder:
    folder = _transformer_folder(local_folder(name))
    backbone, tokenizer = load_transformer(folder, scorer=head == "cls", new_head=new_head)
    labels = backbone.config.num_labels
    if head == "cls" and labels > 2:
        raise BadInput(
            f"{name}: tells {labels} classes apart: a cross encoder has one score, or two classes of which the second is relevant"
        )
    settings = CrossSettings(longest_text(backbone, tokenizer, optional_json(folder / "sentence_bert_config.json")))
    if max_length is not None and max_length > (most := longest_text(backbone, tokenizer, {"max_seq_length": max_length})):
        raise BadInput(f"{name}: max_length {max_length}: it reads at most {most} tokens")
    settings = replace(settings, **(optional_json(folder / SETTINGS).get("settings", {}) if head == "dual_pooling" else {}))
    given: dict[str, Any] = {"max_length": max_length, "temperature": temperature}
    settings = replace(settings, **{key: value for key, value in given.items() if value is not None})
    return (ClsHead if head == "cls" else DualPooling)(backbone, tokenizer, settings)


def is_dual_pooled(folder: Path) -> bool:
    return (folder / SETTINGS).exists()


def is_cross_encoder(folder: Path) -> bool:
    """Whether the folder scores pairs rather than embeds texts."""
    if is_dual_pooled(folder) or (folder / "router_config.json").exists():
        return is_dual_pooled(folder)
    with refuse_unreadable("a model folder", folder):
        architectures = optional_json(_transformer_folder(folder) / "config.json").get("architectures") or [""]
        return architectures[0].endswith(SCORER)


def save_cross_encoder(encoder: CrossEncoder, folder: Path) -> None:
    """Writes `encoder` whole or not at all."""
    logging.disable_progress_bar()
    with write_atomically(folder) as temporary:
        if encoder.head == "cls":
            encoder.backbone.config.sentence_transformers = AS_LOGITS
        encoder.backbone.save_pretrained(temporary)
        encoder.tokenizer.model_max_length = encoder.settings.max_length
        encoder.tokenizer.save_pretrained(temporary)
        if encoder.head == "dual_pooling":
            write_json(temporary / SETTINGS, {"head": encoder.head, "settings": asdict(encoder.settings)})


def _transformer_folder(folder: Path) -> Path:
    """Where the transformer lies in a sentence-transformers folder; a plain folder is one itself."""
    parts: list[dict[str, Any]] = optional_json(folder / "modules.json") or [{"path": "", "type": "Transformer"}]  # type: ignore[assignment]
    if parts[0]["type"].rsplit(".", 1)[-1] != "Transformer":
        raise BadInput(f"{folder / 'modules.json'}: begins with {parts[0]['type']}: only a single transformer can read pairs")
    settings = optional_json(folder / "config_sentence_transformers.json")
    is_cross = settings.get("model_type") == "CrossEncoder"
    if is_cross and (len(parts) > 1 or settings.get("default_prompt_name")):
        raise BadInput(f"{folder}: a cross encoder with modules behind its transformer, or with a prompt, is not supported")
    return path_within(folder, parts[0]["path"])
