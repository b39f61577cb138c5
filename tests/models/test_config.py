"""`config.json` in and out: what is read, what is refused, and by which words."""

import copy
import json
import re

import pytest
from transformers import AutoConfig, LlamaConfig

from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.config_out import to_hf
from jaxattack.models.families import from_hf, read_config

FIELDS = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "rms_norm_eps": 1e-5,
}
BLOOM = {
    "model_type": "bloom",
    "vocab_size": 100,
    "n_embed": 32,
    "n_layer": 2,
    "n_head": 4,
    "layer_norm_epsilon": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def test_a_short_old_config_gets_the_defaults_of_transformers():
    ours = from_hf(FIELDS)
    theirs = LlamaConfig(**{k: v for k, v in FIELDS.items() if k != "model_type"})
    assert ours == ModelConfig(
        vocab_size=100,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=theirs.num_key_value_heads,
        head_dim=theirs.head_dim,
        mlp_size=48,
        norm_eps=1e-5,
        rope=Rope(theta=theirs.rope_parameters["rope_theta"]),
        tied=theirs.tie_word_embeddings,
        qkv_bias=theirs.attention_bias,
        o_bias=theirs.attention_bias,
        mlp_bias=theirs.mlp_bias,
        max_position=theirs.max_position_embeddings,
    )


@pytest.mark.parametrize(
    ("fields", "rope"),
    [
        ({"rope_theta": 5e5}, Rope(theta=5e5)),
        ({"rope_theta": 5e5, "rope_scaling": None}, Rope(theta=5e5)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, Rope("linear", 1e4, 2.0)),
        ({"rope_theta": 5e5, "rope_scaling": LLAMA3}, Rope("llama3", 5e5, 8.0, 1.0, 4.0, 64)),
        (
            {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}},
            Rope("llama3", 5e5, 8.0, 1.0, 4.0, 64),
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, Rope(theta=7.0)),
    ],
)
def test_rope_of_old_and_new_config_files(fields, rope):
    assert from_hf(FIELDS | fields).rope == rope


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "mamba"}, "'mamba'"),
        ({"model_type": None}, "model_type"),
        ({"sliding_window": 128}, "sliding_window"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"model_type": "gemma3"}, "text_config is no object"),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "llama"}},
            "text_config.model_type",
        ),
        ({"model_type": "llava", "text_config": {}}, "save its language model alone"),
        ({"model_type": "bert", "layer_norm_eps": 1e-5}, "encoders"),
        ({"model_type": "mistral"}, "missing fields: num_key_value_heads"),
        ({"model_type": "gemma", "num_key_value_heads": 1, "hidden_act": "relu"}, "'relu'"),
        (
            {
                "model_type": "gemma3_text",
                "num_key_value_heads": 1,
                "attn_logit_softcapping": 50.0,
            },
            "attn_logit_softcapping",
        ),
        (
            {"model_type": "gemma2", "num_key_value_heads": 1, "layer_types": ["full_attention"]},
            "layer.types",
        ),
        ({"model_type": "bloom"}, "unknown fields.*intermediate_size"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'linear' needs 'factor'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ({"rope_parameters": {"rope_type": "default"}}, "rope_theta"),
    ],
)
def test_other_arithmetic_is_refused_by_name(fields, words):
    with pytest.raises(UserError, match=words):
        from_hf(FIELDS | fields)


def test_an_unknown_field_that_is_switched_off_is_no_matter():
    assert from_hf(FIELDS | {"sliding_window": None, "use_moe": False}) == from_hf(FIELDS)


REAL = {
    "SmolLM2": {
        "is_llama_config": True,
        "rope_interleaved": False,
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
    },
    "Falcon3": {"activation": "swiglu"},
    "transformers 4": {
        "_attn_implementation_autoset": True,
        "_name_or_path": "x",
        "max_length": 9,
        "temperature": 0.6,
        "top_p": 0.9,
        "do_sample": True,
        "num_labels": 2,
        "repetition_penalty": 1.1,
        "no_repeat_ngram_size": 3,
        "pruned_heads": {},
        "id2label": {"0": "a"},
        "use_cache": False,
        "output_attentions": True,
        "problem_type": "regression",
        "chunk_size_feed_forward": 8,
    },
    "gguf": {"_model_name_or_path": "Smollm2 135M 8k", "_anything": {"scale": 3}},
    "tokenizers": {
        "model_max_length": 99,
        "max_sequence_length": 99,
        "tokenizer_class": "X",
        "sep_token_id": 5,
        "mask_token_id": 6,
        "image_token_index": 7,
        "eos_token": "x",
    },
    "training": {
        "gradient_checkpointing": True,
        "neftune_noise_alpha": 5.0,
        "unsloth_fixed": True,
        "unsloth_version": "2025.3.1",
        "attention_dropout": 0.1,
        "resid_pdrop": 0.1,
        "initializer_range": 0.3,
        "tensor_parallel_degree": 4,
        "pretraining_tp": 2,
    },
    "kernels": {
        "use_flash_attention_2": True,
        "attention_softmax_in_fp32": True,
        "attn_implementation": "sdpa",
        "fused_attention": True,
    },
    "neutral": {
        "partial_rotary_factor": 1.0,
        "rotary_pct": 1.0,
        "logit_scale": 1.0,
        "use_mrope": False,
        "layer_types": ["full_attention"] * 2,
        "head_dim": None,
    },
}


@pytest.mark.parametrize("fields", REAL.values(), ids=REAL)
def test_fields_that_change_no_arithmetic_are_no_matter(fields):
    assert from_hf(FIELDS | fields) == from_hf(FIELDS)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {"is_causal": False}),
        ("llama", {"per_layer_config": {"0": {"rms_norm_eps": 1.0}}}),
        ("llama", {"logit_scale": 0.5}),
        ("llama", {"attention_multiplier": 1.0}),
        ("llama", {"residual_multiplier": 0.2}),
        ("llama", {"rope_interleaved": True}),
        ("llama", {"partial_rotary_factor": 0.5}),
        ("llama", {"activation": "gelu"}),
        ("llama", {"num_local_experts": 8}),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("llama", {"use_parallel_residual": True}),
        ("llama", {"attention_sinks": 4}),
        ("gemma2", {"use_bidirectional_attention": True}),
        ("gemma2", {"sliding_window_size": 77}),
        ("bloom", {"apply_residual_connection_post_layernorm": True}),
    ],
)
def test_a_field_that_may_change_it_is_refused_with_its_value(family, fields):
    given = BLOOM if family == "bloom" else FIELDS | {"num_key_value_heads": 2}
    name, value = next(iter(fields.items()))
    with pytest.raises(UserError, match=re.escape(f"{name}={value!r}")):
        from_hf(given | {"model_type": family} | fields)


THETA = {"rope_theta": 5e5}
LINEAR = {"rope_type": "linear", "factor": 2.0}
PAIR = {"sliding_window_pattern": 2}  # a local layer and a global one
BOTH = {"full_attention": THETA, "sliding_attention": {"rope_theta": 3.0}}


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        ("qwen2", {"rope_parameters": THETA, "rope_scaling": LINEAR}, "both there"),
        ("qwen2", {"rope_parameters": THETA | LINEAR | {"mrope_section": [1]}}, "mrope_section"),
        ("qwen2", {"rope_scaling": LINEAR | {"attention_factor": 2.0}}, "attention_factor=2.0"),
        ("qwen2", {"rope_scaling": LINEAR | {"type": "yarn"}}, "keep one"),
        ("qwen2", {"rope_scaling": "linear"}, "should be an object"),
        ("qwen2", {"rope_parameters": THETA | {"partial_rotary_factor": 0.5}}, "partial_rotary"),
        ("qwen2", {"rope_parameters": {"full_attention": THETA}}, "rope_parameters"),
        ("gemma3_text", {"rope_parameters": THETA}, "unknown: rope_theta"),
        ("llama", {"rope_scaling": LLAMA3, "original_max_position_embeddings": 8}, "keep one"),
        ("llama", {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "below high_freq_factor"),
        ("llama", {"rope_scaling": LINEAR | {"factor": 0}}, "factor is 0"),
        ("llama", {"rope_theta": 0}, "rope_theta is 0"),
        ("llama", {"rope_theta": -1e4}, "rope_theta is -1"),
        ("llama", {"rms_norm_eps": -1}, "rms_norm_eps is -1"),
        ("llama", {"rms_norm_eps": 0.0}, "rms_norm_eps is 0"),
        ("llama", {"rms_norm_eps": "1e-05"}, "should be a number"),
        ("llama", {"rms_norm_eps": 10**400}, "finite number"),
        ("llama", {"head_dim": 0}, "head_dim is 0"),
        ("llama", {"head_dim": 7}, "even"),
        ("llama", {"vocab_size": "600"}, "vocab_size is '600'"),
        ("llama", {"vocab_size": True}, "vocab_size is True"),
        ("llama", {"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
        ("llama", {"hidden_size": 10**30}, "hidden_size is 1000"),
        ("llama", {"num_key_value_heads": 3}, "should divide"),
        ("llama", {"tie_word_embeddings": "false"}, "true or false"),
        ("gemma2", {"final_logit_softcapping": 0}, "final_logit_softcapping is 0"),
        ("gemma2", {"sliding_window": None}, "there is no sliding_window"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "no head that writes"),
        ("llama", {"architectures": ["X"], "auto_map": {"AutoModel": "x.X"}}, "never run"),
    ],
)
def test_values_out_of_bounds_and_what_would_be_dropped_are_named(family, fields, words):
    with pytest.raises(UserError, match=words):
        from_hf(FIELDS | {"model_type": family, "num_key_value_heads": 2} | fields)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("llama", {}),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 4, "rope_type": "linear"}}),
        ("llama", {"rope_scaling": LLAMA3, "rope_theta": 5e5}),
        ("llama", {"rope_parameters": THETA | LINEAR, "rope_scaling": THETA | LINEAR}),
        ("mistral", {}),
        ("qwen2", {"num_key_value_heads": None}),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8}),
        ("gemma2", {"attn_logit_softcapping": None, "sliding_window_size": 4096}),
        ("gemma3_text", PAIR),
        ("gemma3_text", PAIR | {"rope_scaling": LINEAR, "rope_local_base_freq": 9.0}),
        ("gemma3_text", PAIR | {"rope_parameters": BOTH, "rope_scaling": LINEAR}),
    ],
)
def test_what_a_file_leaves_out_or_says_twice_is_settled_as_by_transformers(family, fields):
    given = FIELDS | {"model_type": family, "num_key_value_heads": 2} | fields
    ours = from_hf(given)
    theirs = AutoConfig.for_model(**copy.deepcopy(given))
    assert (ours.num_kv_heads, ours.max_position) == (
        theirs.num_key_value_heads,
        theirs.max_position_embeddings,
    )
    kinds = getattr(theirs, "layer_types", ["full_attention"] * 2)
    local = ["sliding_attention"] * 2 if family == "mistral" else kinds
    assert list(ours.local_layers or (False,) * 2) == [k == "sliding_attention" for k in local]
    ropes = theirs.rope_parameters
    ropes = ropes if family == "gemma3_text" else {"full_attention": ropes}
    pairs = {"full_attention": ours.rope, "sliding_attention": ours.local_rope}
    for kind, wanted in ropes.items():
        rope = pairs[kind]
        assert (rope.kind, rope.theta) == (wanted["rope_type"], wanted["rope_theta"])
        assert rope.factor == wanted.get("factor", 1.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "llama", "neftune": NaN}',
        '{"model_type": "llama", "rms_norm_eps": 1e999}',
        '{"a": ' * 100_000,
        "version https://git-lfs.github.com/spec/v1\noid sha256:0",
    ],
    ids=["NaN", "infinity", "deep", "pointer"],
)
def test_a_file_that_is_no_sound_json_is_one_line(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: (not valid JSON|a pointer)") as error:
        read_config(tmp_path)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"model_type"}))
def test_a_missing_field_is_named(name):
    fields = {key: value for key, value in FIELDS.items() if key != name}
    with pytest.raises(UserError, match=f"missing fields: {name}"):
        from_hf(fields)


@pytest.mark.parametrize("text", ["{", "", "\ufeff\x00", "[1, 2]", '"llama"', "null"])
def test_a_file_that_holds_no_json_object_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json"):
        read_config(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json: no such file"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "rope", [Rope(theta=5e5), Rope("linear", 1e4, 2.0), Rope("llama3", 5e5, 8.0, 1.0, 4.0, 64)]
)
def test_what_is_written_reads_back_the_same_here_and_in_transformers(tmp_path, rope):
    config = ModelConfig(
        vocab_size=101,
        hidden_size=24,
        num_layers=3,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        mlp_size=20,
        norm_eps=1e-6,
        rope=rope,
        tied=True,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        max_position=77,
    )
    (tmp_path / "config.json").write_text(json.dumps(to_hf(config, "bfloat16")))
    assert read_config(tmp_path) == config
    theirs = LlamaConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    theirs.save_pretrained(tmp_path)
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"apply_residual_connection_post_layernorm": True}, "apply_residual_connection"),
        ({"n_inner": 100}, "n_inner is 100"),
        ({"n_layer": None}, "missing fields: num_hidden_layers"),
    ],
)
def test_other_blooms_are_refused_by_name(fields, words):
    assert from_hf(BLOOM).mlp_size == 128
    with pytest.raises(UserError, match=words):
        from_hf(BLOOM | fields)
