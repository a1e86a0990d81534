"""Generates training queries from real queries or from documents, for corpora with few real queries, and filters them.

Each generator has its own file: crop, noise, seq2seq, llm. `generate.generate` writes a file of queries: plan.py assigns texts to
shards, shards.py makes one shard, join.py joins the shards into one file.
"""

from distill.generate.crop import Crop
from distill.generate.generator import Generator
from distill.generate.llm import Llm
from distill.generate.noise import Noise
from distill.generate.seq2seq import Seq2Seq

__all__ = ["Crop", "Generator", "Llm", "Noise", "Seq2Seq"]
