"""Writes an encoder as an ONNX graph from token ids to vectors, quantises the graph, and checks it against PyTorch."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.encoders.encoder import Encoder
from distill.encoders.onnx_encoder import OUTPUT, OnnxEncoder
from distill.encoders.transformer_folder import first_line
from distill.records import Tokens, one_line

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUTS = ("input_ids", "attention_mask")
TOLERANCE = 1e-5  # largest difference between PyTorch's and ONNX Runtime's vectors in fp32, as a share of their length


class NoGraph(Exception):
    """An encoder cannot be written as an ONNX graph that gives its vectors."""


class Graph(nn.Module):
    """The function that becomes the ONNX graph; sentence-transformers' own ONNX backend reads the token states."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns vectors [B, D] and token states [B, L, D] for token ids [B, L]."""
        states = self.encoder.states(Tokens(input_ids, attention_mask))
        return self.encoder.embed_states(states, attention_mask), states


def missing_packages() -> list[str]:
    """Lists the packages of the extra `onnx` that are not installed."""
    return [name for name in PACKAGES if find_spec(name) is None]


def write_graph(encoder: Encoder, path: Path) -> None:
    """Writes the graph `input_ids`, `attention_mask` [batch, length] int64 -> `sentence_embedding` [batch, D] in fp32.

    Raises:
        NoGraph: a module uses an operation that ONNX does not have.
    """
    encoder = copy.deepcopy(encoder).cpu().eval()
    encoder.transformer.use_fastest_attention(
        torch.device("cpu"), max_length=0
    )  # plain products give a smaller graph than the fused kernel
    # two texts of different length, so that no size is fixed in the graph
    tokens = encoder.pad([encoder.token_ids(["a"], "query")[0], encoder.token_ids(["a b c d"], "query")[0]])
    sizes = {0: torch.export.Dim("batch_size"), 1: torch.export.Dim("sequence_length")}
    with silence():
        try:
            program = torch.onnx.export(
                Graph(encoder),
                (tokens.input_ids, tokens.attention_mask),
                dynamo=True,
                input_names=INPUTS,
                output_names=[OUTPUT, "last_hidden_state"],
                dynamic_shapes=dict.fromkeys(INPUTS, sizes),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            # its own message is advice to those who develop torch
            raise NoGraph(f"torch.onnx.export: {one_line(first_line(error.__cause__ or error))}") from error
    assert program is not None
    program.save(path)


def write_quantised(graph: Path, path: Path) -> None:
    """Writes `graph` with the weights of its matrix products in 8 bits; biases, norms and the word table stay as they are."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with silence():
        # one scale for every 128 weights and 128 activations: with quantize_dynamic, which has one scale for a row of weights and one
        # for all activations, the mean cosine to the fp32 vectors of a two-layer student is 0.996 instead of 0.9998
        quantiser = MatMulNBitsQuantizer(onnx.load(graph), bits=8, block_size=128, is_symmetric=True, accuracy_level=4)
        quantiser.process()
        quantiser.model.save_model_to_file(str(path), use_external_data_format=False)


def check_equal(encoder: Encoder, served: OnnxEncoder, texts: Sequence[str]) -> None:
    """Checks that the vectors of ONNX Runtime equal PyTorch's.

    Texts are encoded one by one, all in one batch with padding, and joined into one text that is longer than the maximum length.

    Raises:
        NoGraph: a vector differs by more than TOLERANCE of its length, or ONNX Runtime fails at a text.
    """
    one_by_one = [[text] for text in texts]
    for batch in [*one_by_one, texts, [texts[0], " ".join(texts)]]:
        expected = encoder.encode(batch, "query").numpy()  # [N, D]
        try:
            vectors = served.encode(batch, "query")  # [N, D]
        except Exception as error:  # errors of ONNX Runtime have no common class
            raise NoGraph(f"ONNX Runtime fails at texts that PyTorch reads: {one_line(error)}") from error
        difference = np.abs(vectors - expected).max() / np.linalg.norm(expected, axis=1).max()
        if not difference <= TOLERANCE:  # also where it is not a number
            raise NoGraph(f"ONNX Runtime's vectors differ from PyTorch's by {difference:.1e} of their length, on {batch[0]!r}")


@contextmanager
def silence() -> Iterator[None]:
    """Hides the logs and warnings of the exporter and the quantiser."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
