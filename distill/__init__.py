"""Keep your index, shrink your query encoder: distil a retrieval teacher into a student that writes into its embedding space.

The public names are imported when they are used: `import distill` itself takes no time.

>>> import distill
>>> distill.QueryMatching(distance="cosine").weight
1.0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.callbacks.retrieval_eval import RetrievalEval
    from distill.data.datamodule import RetrievalData
    from distill.encoders.encoder import Encoder
    from distill.encoders.folder import load_encoder
    from distill.encoders.modules import Dense, EncoderModule, LayerNorm, Normalize, Transformer, Truncate
    from distill.encoders.onnx_encoder import OnnxEncoder
    from distill.encoders.pooling import Pooling
    from distill.encoders.static_encoder import StaticEncoder
    from distill.encoders.static_student import StaticStudent
    from distill.encoders.students import StudentFromBackbone, StudentFromTeacher, StudentSpec
    from distill.encoders.token_table import TokenTable
    from distill.encoders.towers import Towers, load_towers
    from distill.evaluation.drift import DriftReport, drift
    from distill.evaluation.evaluate import evaluate
    from distill.evaluation.rerank import rerank
    from distill.evaluation.results import Results
    from distill.evaluation.suite import evaluate_suite
    from distill.evaluation.suite_results import SuiteResults
    from distill.generate.generator import Generator
    from distill.losses.base import Loss, LossInputs
    from distill.losses.contrastive import OneHot
    from distill.losses.embedding import DocumentMatching, QueryMatching
    from distill.losses.geometry import ContrastiveMatching, SimilarityMatching
    from distill.losses.score import MarginMSE, ScoreDistillation, ScoreMSE
    from distill.modules.student import StudentModule
    from distill.planning.options import PlanOptions
    from distill.planning.plan import Plan, plan
    from distill.records import BadInput, Batch, Encoded
    from distill.run import Run, train
    from distill.shrinking.comparison import Frontier
    from distill.shrinking.frontier import frontier
    from distill.shrinking.options import ShrinkOptions
    from distill.shrinking.shrink import shrink
    from distill.teachers.encode import encode
    from distill.teachers.import_vectors import import_vectors
    from distill.teachers.mining import mine
    from distill.teachers.options import TeacherOptions
    from distill.teachers.teacher import Teacher
    from distill.texts import Beir, Collection, HfDataset, IrDatasets, MsMarcoTsv, PythonDocs, TextSource
    from distill.texts.qrels import Qrels
    from distill.texts.tables import read_queries as queries
    from distill.texts.texts import Texts
    from distill.training.sweep import sweep
    from distill.vectors.index import Index
    from distill.vectors.search import search
    from distill.vectors.store import TeacherStore, VectorStore

# module: its public names
NAMES = {
    "callbacks.retrieval_eval": ["RetrievalEval"],
    "data.datamodule": ["RetrievalData"],
    "encoders.encoder": ["Encoder"],
    "encoders.folder": ["load_encoder"],
    "encoders.modules": ["Dense", "EncoderModule", "LayerNorm", "Normalize", "Transformer", "Truncate"],
    "encoders.onnx_encoder": ["OnnxEncoder"],
    "encoders.pooling": ["Pooling"],
    "encoders.static_encoder": ["StaticEncoder"],
    "encoders.static_student": ["StaticStudent"],
    "encoders.students": ["StudentFromBackbone", "StudentFromTeacher", "StudentSpec"],
    "encoders.token_table": ["TokenTable"],
    "encoders.towers": ["Towers", "load_towers"],
    "evaluation.drift": ["DriftReport", "drift"],
    "evaluation.evaluate": ["evaluate"],
    "evaluation.rerank": ["rerank"],
    "evaluation.results": ["Results"],
    "evaluation.suite": ["evaluate_suite"],
    "evaluation.suite_results": ["SuiteResults"],
    "generate.generator": ["Generator"],
    "losses.base": ["Loss", "LossInputs"],
    "losses.contrastive": ["OneHot"],
    "losses.embedding": ["DocumentMatching", "QueryMatching"],
    "losses.geometry": ["ContrastiveMatching", "SimilarityMatching"],
    "losses.score": ["MarginMSE", "ScoreDistillation", "ScoreMSE"],
    "modules.student": ["StudentModule"],
    "planning.options": ["PlanOptions"],
    "planning.plan": ["Plan", "plan"],
    "records": ["BadInput", "Batch", "Encoded"],
    "run": ["Run", "train"],
    "shrinking.comparison": ["Frontier"],
    "shrinking.frontier": ["frontier"],
    "shrinking.options": ["ShrinkOptions"],
    "shrinking.shrink": ["shrink"],
    "teachers.encode": ["encode"],
    "teachers.import_vectors": ["import_vectors"],
    "teachers.mining": ["mine"],
    "teachers.options": ["TeacherOptions"],
    "teachers.teacher": ["Teacher"],
    "texts.collection": ["Collection"],
    "texts.hubs": ["HfDataset", "IrDatasets"],
    "texts.python_docs": ["PythonDocs"],
    "texts.qrels": ["Qrels"],
    "texts.sources": ["Beir", "MsMarcoTsv", "TextSource"],
    "texts.tables": ["queries"],
    "texts.texts": ["Texts"],
    "training.sweep": ["sweep"],
    "vectors.index": ["Index"],
    "vectors.search": ["search"],
    "vectors.store": ["TeacherStore", "VectorStore"],
}
RENAMED = {"queries": "read_queries"}  # public names that are functions of another name
MODULE_OF = {name: module for module, names in NAMES.items() for name in names}
__all__ = sorted(MODULE_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("distill")
    if name not in MODULE_OF:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"distill.{MODULE_OF[name]}"), RENAMED.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
