"""Settings of a sentence-transformers folder by file and key, with the values that the differential test of folders tries."""

from __future__ import annotations

from typing import Any

NEW = "sentence_transformers.sentence_transformer.modules"
HUB_KERNEL = "kernels-community/flash-attn"
PLAIN = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
POOLED = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
SETTINGS_NAMES = [
    f"sentence_{name}_config.json" for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
ABSENT = object()  # the key is taken out


def arguments(*more: dict[str, Any]) -> list[Any]:
    return [{}, {"trust_remote_code": True}, {"revision": "main"}, *more]


TRANSFORMER: dict[str, list[Any]] = {
    "max_seq_length": [None, 5, 9, 16, 40, 999, 0, -1, "12", 12.0, True, ABSENT],
    "do_lower_case": [True, False, None],
    "transformer_task": ["feature-extraction", "sequence-classification", "fill-mask", "text-generation"],
    "modality_config": [
        PLAIN,
        POOLED,
        {**PLAIN, "image": PLAIN["text"]},
        {**PLAIN, "message": PLAIN["text"]},
        {},
        {"image": PLAIN["text"]},
    ],
    "module_output_name": ["token_embeddings", "sentence_embedding", "scores"],
    "processing_kwargs": [{}, {"text": {"max_length": 5}}, {"text": {"add_special_tokens": False}}, {"common": {"max_length": 6}}],
    "unpad_inputs": [None, True, False],
    "query_length": [None, 4],
    "document_length": [None, 6],
    "query_expansion": [None, {"strategy": "fixed", "length": 12}, {"strategy": "min", "length": 14, "attend": True}],
    "tokenizer_name_or_path": [None],
    "model_args": arguments({"attn_implementation": "eager"}, {"attn_implementation": HUB_KERNEL}, {"add_pooling_layer": False}),
    "model_kwargs": arguments({"attn_implementation": "sdpa"}, {"dtype": "float32"}, {"num_hidden_layers": 1}),
    "tokenizer_args": arguments({"model_max_length": 6}, {"padding_side": "left"}, {"truncation_side": "left"}),
    "processor_kwargs": arguments({"use_fast": True}, {"model_max_length": 7}),
    "config_args": arguments({"hidden_act": "relu"}, {"is_decoder": True}, {"num_hidden_layers": 2}),
    "config_kwargs": arguments({"layer_norm_eps": 0.5}, {"use_cache": False}),
    "architecture": ["BertModel"],
}
OLD_POOLINGS = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
POOLING: dict[str, list[Any]] = {
    **{f"pooling_mode_{name}": [True, False, 1] for name in OLD_POOLINGS},
    "pooling_mode": [
        "cls",
        "mean",
        "max",
        "mean_sqrt_len_tokens",
        "weightedmean",
        "lasttoken",
        ["mean"],
        ["cls", "mean"],
        None,
        "nonsense",
    ],
    "include_prompt": [True, False, None, 0],
    "embedding_dimension": [16],
    "word_embedding_dimension": [16, 8],
    "weights": [[1.0]],
}
ACTIVATIONS = ["linear.Identity", *(f"activation.{name}" for name in ("Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "Softplus"))]
DENSE: dict[str, list[Any]] = {
    "activation_function": [
        *(f"torch.nn.modules.{name}" for name in ACTIVATIONS),
        "torch.nn.GELU",
        "mine.GELU",
        "torch.tanh",
        None,
        ABSENT,
    ],
    "use_residual": [True, False],
    "module_input_name": ["sentence_embedding", "token_embeddings"],
    "module_output_name": ["sentence_embedding", "other", None],
    "bias": [True, 1, ABSENT],
    "unknown": [3],
}
NORMALIZE: dict[str, list[Any]] = {
    "module_input_name": ["sentence_embedding", "token_embeddings"],
    "module_output_name": ["sentence_embedding", "other", None],
    "unknown": [1],
}
MODEL: dict[str, list[Any]] = {
    "similarity_fn_name": ["cosine", "dot", "euclidean", "manhattan", "maxsim", "nonsense", None, ABSENT],
    "truncate_dim": [None, 4, 12, 16, 999, 0, -3],
    "default_prompt_name": [None, "query", "document", "other", "missing"],
    "prompts": [
        {},
        None,
        {"query": "find "},
        {"query": "find ", "document": "letter "},
        {"query": None, "document": None},
        {"query": "", "document": "", "other": "the "},
        {"other": "the "},
        {"query": 3, "document": "letter "},
    ],
    "model_type": ["SentenceTransformer", "SparseEncoder", "CrossEncoder", "MultiVectorEncoder", ABSENT],
    "requirements": [None, {}],
    "__version__": [{"sentence_transformers": "2.0.0"}, {"sentence_transformers": "99.0"}],
}
CONFIG: dict[str, list[Any]] = {
    "attn_implementation": ["eager", "sdpa", HUB_KERNEL],
    "_attn_implementation": ["eager", HUB_KERNEL],
    "hidden_act": ["relu", "gelu", "silu"],
    "is_decoder": [True, False],
    "output_hidden_states": [True],
    "output_attentions": [True],
    "layer_norm_eps": [1e-3],
    "chunk_size_feed_forward": [0, 2],
    "use_cache": [True],
    "return_dict": [False],
    "dtype": ["float32"],
    "quantization_config": [{"quant_method": "bitsandbytes", "load_in_8bit": True}, {"quant_method": "torchao"}],
    "auto_map": [{"AutoModel": "modeling_own.Own"}, {"AutoConfig": "configuration_own.Own"}, {"AutoModelForCausalLM": "modeling_own.Own"}],
    "architectures": [["BertForMaskedLM"], None],
    "use_bidirectional_attention": [True],
}
TOKENIZER: dict[str, list[Any]] = {
    "padding_side": ["left", "right"],
    "truncation_side": ["left", "right"],
    "model_max_length": [6, 40, 10**30, ABSENT],
    "model_input_names": [["input_ids"], ["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]],
    "do_lower_case": [True, False],
    "tokenizer_class": ["PreTrainedTokenizerFast", "TokenizersBackend"],
    "clean_up_tokenization_spaces": [True, False],
    "add_prefix_space": [True],
    "auto_map": [{"AutoTokenizer": ["tokenization_own.Own", None]}, ["tokenization_own.Own", None]],
    "processor_class": ["OwnProcessor"],
}
FILES: dict[str, dict[str, list[Any]]] = {
    "sentence_bert_config.json": TRANSFORMER,
    "1_Pooling/config.json": POOLING,
    "2_Dense/config.json": DENSE,
    "3_Normalize/config.json": NORMALIZE,
    "config_sentence_transformers.json": MODEL,
    "config.json": CONFIG,
    "tokenizer_config.json": TOKENIZER,
}
