"""`config.json` in and out: what is read, what is refused, and by which words."""

import json

import pytest
from transformers import LlamaConfig

from jaxattack.errors import UserError
from jaxattack.models.config import ModelConfig, Rope
from jaxattack.models.families import from_hf, read_config, to_hf

FIELDS = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "rms_norm_eps": 1e-5,
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
        ({"model_type": "gemma3", "text_config": {}}, "give its text model"),
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
            "layer_types",
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
        vocab_size=101, hidden_size=24, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=8,
        mlp_size=20, norm_eps=1e-6, rope=rope, tied=True, qkv_bias=True, o_bias=True, mlp_bias=True,
        max_position=77,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(to_hf(config, "bfloat16")))
    assert read_config(tmp_path) == config
    theirs = LlamaConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    theirs.save_pretrained(tmp_path)
    assert read_config(tmp_path) == config


BLOOM = {
    "model_type": "bloom",
    "vocab_size": 100,
    "n_embed": 32,
    "n_layer": 2,
    "n_head": 4,
    "layer_norm_epsilon": 1e-5,
}


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
