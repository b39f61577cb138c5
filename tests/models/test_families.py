"""Every family against transformers under torch: logits, gradients, tokens, files in and out.

Each family has at least four random tiny configurations; sequences are longer than the windows.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from jaxattack.models import table, weights
from jaxattack.models.families import FAMILIES, from_hf, to_hf
from jaxattack.models.generate import generate_tokens
from jaxattack.models.pretrained import load_pretrained, save_pretrained
from jaxattack.tree import named_leaves

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
        {"num_hidden_layers": 3, "use_sliding_window": True,
         "sliding_window": 5, "rope_parameters": LLAMA3,
         "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
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
        {**GEMMA2, "final_logit_softcapping": None, "rope_parameters": LINEAR,
         "layer_types": ["full_attention", "sliding_attention"]},
    ],
    "gemma3_text": [
        {**GEMMA3, "tie_word_embeddings": True},
        {**GEMMA3, **ONE_KV, "head_dim": 16},
        {**GEMMA3, "attention_bias": True, "rope_parameters": {
            "full_attention": LINEAR,
            "sliding_attention": {"rope_type": "default", "rope_theta": 77.0}}},
        {**GEMMA3, "final_logit_softcapping": 2.0,
         "layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2},
    ],
    "bloom": [
        {"hidden_size": 32, "n_layer": 2, "n_head": 4},
        {"hidden_size": 36, "n_layer": 2, "n_head": 6, "vocab_size": 611},
        {"hidden_size": 32, "n_layer": 1, "n_head": 1, "layer_norm_epsilon": 1e-2},
        {"hidden_size": 40, "n_layer": 3, "n_head": 5, "tie_word_embeddings": False},
    ],
}  # fmt: skip
CASES = [(family, number) for family in CONFIGS for number in range(len(CONFIGS[family]))]
TOKENS = np.random.default_rng(1).integers(0, 608, (2, 48)).astype(np.int32)
PROMPTS = [
    np.random.default_rng(length).integers(1, 600, length).tolist() for length in (9, 3, 31, 1)
]
NEW = 32


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def checkpoint(request, make_checkpoint):
    family, number = request.param
    return make_checkpoint(model_type=family, **CONFIGS[family][number])


def test_there_are_four_configurations_of_every_family():
    assert set(CONFIGS) == set(FAMILIES)
    assert min(map(len, CONFIGS.values())) >= 4


def test_logits_equal_transformers(checkpoint, logits_of, record_property):
    with torch.no_grad():
        expected = checkpoint.reference(torch.tensor(TOKENS).long()).logits.numpy()
    found = logits_of(checkpoint.model, checkpoint.params, TOKENS)
    difference = float(np.abs(np.asarray(found) - expected).max())
    record_property("family", checkpoint.model.config.family)
    record_property("logits", difference)
    assert np.abs(expected).max() > 1  # else 1e-4 would mean little
    assert difference <= 1e-4


def test_gradients_equal_torch_autograd(
    checkpoint, make_batch, loss_and_gradient, torch_answer_loss, record_property
):
    batch = make_batch(seed=3, rows=8)
    checkpoint.reference.zero_grad()
    expected = torch_answer_loss(checkpoint.reference, batch)
    expected.backward()
    loss, gradients = loss_and_gradient(checkpoint.model, checkpoint.params, batch)
    assert float(loss) == pytest.approx(expected.item(), rel=1e-6)
    theirs = {name: p.grad.numpy() for name, p in checkpoint.reference.named_parameters()}
    leaves = named_leaves(gradients)
    largest = 0.0
    for row in table.rows(checkpoint.model.config):
        parts = leaves[row.path] if row.stacked else leaves[row.path][None]
        for layer, part in enumerate(parts):
            name = row.name.format(layer)
            wanted = theirs.pop(name)
            assert np.abs(wanted).max() > 1e-7, name
            found = table.from_ours(row, np.asarray(part))
            scale = np.abs(wanted).max()
            largest = max(largest, float(np.abs(found - wanted).max() / scale))
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale, err_msg=name)
    assert not theirs
    record_property("family", checkpoint.model.config.family)
    record_property("gradients", largest)  # relative to the largest entry of each weight


def test_left_padded_greedy_tokens_equal_transformers(checkpoint):
    reference = checkpoint.reference
    reference.generation_config.eos_token_id = None
    found = generate_tokens(checkpoint.model, checkpoint.params, PROMPTS, (), NEW, batch_size=4)
    for prompt, tokens in zip(PROMPTS, found, strict=True):
        with torch.no_grad():
            out = reference.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                do_sample=False,
                max_new_tokens=NEW,
                pad_token_id=0,
            )
        assert tokens == out[0, len(prompt) :].tolist()


def test_a_round_trip_keeps_every_bit(checkpoint, tmp_path):
    target = tmp_path / "saved"
    save_pretrained(target, checkpoint.model, checkpoint.params, checkpoint.tokenizer)
    again, info = AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert type(again) is type(checkpoint.reference)
    theirs = dict(checkpoint.reference.named_parameters())
    for name, weight in again.named_parameters():
        assert torch.equal(weight, theirs[name]), name
    model, _, _ = load_pretrained(target)
    assert model.config == checkpoint.model.config


def test_config_fields_survive(checkpoint):
    config = checkpoint.model.config
    assert from_hf(to_hf(config, "float32")) == config


def test_a_bare_model_without_its_prefix_loads(make_checkpoint, tmp_path, assert_trees):
    from safetensors.torch import load_file, save_file

    checkpoint = make_checkpoint(model_type="bloom", **CONFIGS["bloom"][0])
    for file in checkpoint.directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / weights.SINGLE)
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, tmp_path / weights.SINGLE, {"format": "pt"})
    assert_trees(load_pretrained(tmp_path)[1], checkpoint.params)
