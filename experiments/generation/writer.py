"""What a generator of queries is fine-tuned from where there is no hub: writer.py TEACHER OUT

An encoder and a decoder of the teacher's first two layers each, where a token still says its word: a query mostly names what its
document names, and a decoder that can copy learns so from few pairs. Its attention to the encoder begins as its attention to itself,
its head's transform as the identity.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertLMHeadModel, BertModel, EncoderDecoderModel

from distill.artefacts import written_atomically

LAYERS = (0, 1)


def main(teacher: str, out: Path) -> None:
    torch.manual_seed(0)
    encoder = BertModel.from_pretrained(teacher, add_pooling_layer=False)
    decoder = BertLMHeadModel.from_pretrained(teacher, is_decoder=True, add_cross_attention=True)
    for model, bert in ((encoder, encoder), (decoder, decoder.bert)):
        bert.encoder.layer = torch.nn.ModuleList([bert.encoder.layer[layer] for layer in LAYERS])
        model.config.num_hidden_layers = len(LAYERS)
    for layer in decoder.bert.encoder.layer:
        layer.crossattention.load_state_dict(layer.attention.state_dict())
    torch.nn.init.eye_(decoder.cls.predictions.transform.dense.weight)
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    special = {"decoder_start_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id, "pad_token_id": 0}
    for config in (model.config, model.generation_config):
        for name, value in special.items():
            setattr(config, name, value)
    with written_atomically(out) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
