"""What a generator of queries is fine-tuned from where there is no hub: writer.py TEACHER OUT

A BART whose encoder and decoder are the teacher's first two layers, where a token still says its word: a query mostly names what its
document names, and a decoder that can copy learns so from few pairs. Its attention to the encoder begins as its attention to itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, BertModel
from transformers.models.bart.modeling_bart import BartAttention

from distill.files.atomic import write_atomically

LAYERS = 2


def copy_(target: nn.Module, source: nn.Module) -> None:
    target.load_state_dict(source.state_dict())


def copy_attention_(target: BartAttention, source: nn.Module) -> None:
    for to, of in zip((target.q_proj, target.k_proj, target.v_proj), (source.self.query, source.self.key, source.self.value), strict=True):
        copy_(to, of)
    copy_(target.out_proj, source.output.dense)


def main(teacher: str, out: Path) -> None:
    bert = BertModel.from_pretrained(teacher, add_pooling_layer=False)
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    of = bert.config
    config = BartConfig(
        vocab_size=of.vocab_size,
        d_model=of.hidden_size,
        max_position_embeddings=of.max_position_embeddings,
        activation_function=of.hidden_act,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        decoder_start_token_id=tokenizer.cls_token_id,
        forced_eos_token_id=None,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=of.num_attention_heads,
        decoder_attention_heads=of.num_attention_heads,
        encoder_ffn_dim=of.intermediate_size,
        decoder_ffn_dim=of.intermediate_size,
    )
    model = BartForConditionalGeneration(config)
    parts = bert.embeddings
    with torch.no_grad():
        copy_(model.model.shared, parts.word_embeddings)
        for tower in (model.model.encoder, model.model.decoder):
            positions = parts.position_embeddings.weight + parts.token_type_embeddings.weight[0]
            tower.embed_positions.weight[tower.embed_positions.offset :] = positions
            copy_(tower.layernorm_embedding, parts.LayerNorm)
            for layer, source in zip(tower.layers, bert.encoder.layer, strict=False):
                copy_attention_(layer.self_attn, source.attention)
                copy_(layer.self_attn_layer_norm, source.attention.output.LayerNorm)
                if tower is model.model.decoder:
                    copy_attention_(layer.encoder_attn, source.attention)
                    copy_(layer.encoder_attn_layer_norm, source.attention.output.LayerNorm)
                copy_(layer.fc1, source.intermediate.dense)
                copy_(layer.fc2, source.output.dense)
                copy_(layer.final_layer_norm, source.output.LayerNorm)
    with write_atomically(out) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
