"""The configuration of a model that transformers does not have; its names are those of GPT-2, as in NomicBERT's folders."""

from transformers import PretrainedConfig


class RotaryConfig(PretrainedConfig):
    model_type = "rotary_bert"
    attribute_map = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}  # noqa: RUF012

    def __init__(self, vocab_size: int = 100, n_embd: int = 16, n_layer: int = 3, n_head: int = 4, n_inner: int = 32, **kwargs):
        self.vocab_size, self.n_embd, self.n_layer, self.n_head, self.n_inner = vocab_size, n_embd, n_layer, n_head, n_inner
        super().__init__(**kwargs)
