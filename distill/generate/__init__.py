"""Queries where real ones are sparse: a generator makes more of them out of queries or documents, filters drop what is of no use.

A generator is a file of its own: crop, noise, seq2seq, llm. `generate.generate` writes a file of queries: a plan (plan.py) says what
each shard is made of, shards.py makes one shard, join.py makes the file out of them.
"""

from distill.generate.crop import Crop
from distill.generate.generator import Generator
from distill.generate.llm import Llm
from distill.generate.noise import Noise
from distill.generate.seq2seq import Seq2Seq

__all__ = ["Crop", "Generator", "Llm", "Noise", "Seq2Seq"]
