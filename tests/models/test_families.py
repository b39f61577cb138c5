"""Every family against transformers under torch: logits, gradients, tokens, files in and out.

Each family has at least four random tiny configurations; sequences are longer than the windows.
"""

import numpy as np
import pytest
import torch
from tiny_configs import CONFIGS
from transformers import AutoModelForCausalLM

from jaxattack.models import table, weights
from jaxattack.models.config_out import to_hf
from jaxattack.models.families import FAMILIES, from_hf
from jaxattack.models.generate import generate_tokens
from jaxattack.models.pretrained import load_pretrained, save_pretrained
from jaxattack.tree import named_leaves

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
    assert len({tuple(tokens) for tokens in found}) > 1


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
