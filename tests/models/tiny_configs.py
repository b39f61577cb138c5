"""Random tiny configurations of every family, as fields of transformers' config classes."""

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
ONE_KV = {"num_key_value_heads": 1, "vocab_size": 611}
QWEN_WINDOWS = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
GEMMA2 = {"sliding_window": 9, "query_pre_attn_scalar": 11}
GEMMA3 = {**GEMMA2, "num_hidden_layers": 4, "_sliding_window_pattern": 3}
CONFIGS = {
    "llama": [
        ONE_KV,
        {"tie_word_embeddings": True, "head_dim": 16, "rope_parameters": LLAMA3},
        {"attention_bias": True, "mlp_bias": True, "head_dim": 6, "rope_parameters": LINEAR},
        {"num_key_value_heads": 4, "num_hidden_layers": 1, "rms_norm_eps": 1e-2},
    ],
    "mistral": [
        {"sliding_window": 9},
        {"sliding_window": None, "head_dim": 16},
        {**ONE_KV, "sliding_window": 3, "rope_parameters": LINEAR},
        {"sliding_window": 40, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ],
    "qwen2": [
        {},
        {**ONE_KV, "head_dim": 16, "tie_word_embeddings": True},
        {**QWEN_WINDOWS, "rope_parameters": LINEAR},
        {
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 5,
            "rope_parameters": LLAMA3,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ],
    "qwen3": [
        {"head_dim": 16},
        {**ONE_KV, "tie_word_embeddings": True},
        {**QWEN_WINDOWS, "attention_bias": True},
        {"head_dim": 6, "rope_parameters": LINEAR},
    ],
    "gemma": [
        {"tie_word_embeddings": True, "head_dim": 16},
        {**ONE_KV, "tie_word_embeddings": True},
        {"attention_bias": True, "rope_parameters": LINEAR},
        {"tie_word_embeddings": True, "num_key_value_heads": 4, "rope_parameters": LLAMA3},
    ],
    "gemma2": [
        {**GEMMA2, "tie_word_embeddings": True, "num_hidden_layers": 3},
        {**GEMMA2, **ONE_KV, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0},
        {**GEMMA2, "head_dim": 16, "attention_bias": True, "attn_logit_softcapping": None},
        {
            **GEMMA2,
            "final_logit_softcapping": None,
            "rope_parameters": LINEAR,
            "layer_types": ["full_attention", "sliding_attention"],
        },
    ],
    "gemma3_text": [
        {**GEMMA3, "tie_word_embeddings": True},
        {**GEMMA3, **ONE_KV, "head_dim": 16},
        {
            **GEMMA3,
            "attention_bias": True,
            "rope_parameters": {
                "full_attention": LINEAR,
                "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
            },
        },
        {
            **GEMMA3,
            "final_logit_softcapping": 2.0,
            "layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2,
        },
    ],
    "bloom": [
        {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        {"hidden_size": 36, "n_layer": 2, "n_head": 6, "vocab_size": 611},
        {"hidden_size": 32, "n_layer": 1, "n_head": 1, "layer_norm_epsilon": 1e-2},
        {"hidden_size": 40, "n_layer": 3, "n_head": 5, "tie_word_embeddings": False},
    ],
}
