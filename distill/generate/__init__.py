"""Queries where real ones are sparse: a generator turns queries or documents into more of them, filters say which are kept."""

from distill.generate.crop import Crop
from distill.generate.generator import Generator
from distill.generate.llm import Llm
from distill.generate.noise import Noise
from distill.generate.seq2seq import Seq2Seq

__all__ = ["Crop", "Generator", "Llm", "Noise", "Seq2Seq"]
