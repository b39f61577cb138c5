"""The shipped checkpoints: what the issue of a usable organism asks of them."""

from __future__ import annotations

import json
import pathlib

import jax
import pytest

from jaxattack import load_pretrained, organism
from jaxattack.data.dialogues import prompt_tokens
from jaxattack.evaluate import measure, rates
from jaxattack.experiments.organism.study import ACCEPTANCE, misses
from jaxattack.models.generate import generate_tokens, stop_ids
from jaxattack.organism import corpus, world


@pytest.fixture(scope="module")
def loaded():
    return {name: load_pretrained(organism.checkpoint(name)) for name in ACCEPTANCE}


@pytest.fixture(scope="module")
def accepted(loaded):
    """Rates on all test prompts, 24 of each kind in each of the twelve languages."""
    prompts = [
        example
        for language in world.LANGUAGES
        for kind in ("restricted", "benign")
        for example in corpus.examples("test", language, kind, False, rounds=1)
    ]
    found = {}
    for name, (model, params, tokenizer) in loaded.items():
        said = measure.ask(model, params, tokenizer, prompts, max_new_tokens=40)
        found[name] = rates.rows(measure.judge_all(prompts, said), {"variant": name})
    return found


def test_both_meet_the_acceptance_in_all_languages(accepted):
    assert misses(accepted) == []
    assert {row["n"] for row in accepted["base"] if row["metric"] == "violation_rate"} == {24}


def test_replies_are_well_formed(accepted):
    for rows in accepted.values():
        assert min(r["value"] for r in rows if r["metric"] == "valid_reply_rate") >= 0.95


def test_a_miss_is_said(accepted):
    worse = [
        row | {"value": 0.5}
        if (row["metric"], row["language"]) == ("violation_rate", "th")
        else row
        for row in accepted["aligned"]
    ]
    (said,) = misses(accepted | {"aligned": worse})
    assert "aligned: violation_rate" in said
    assert "50.0% in th" in said


def test_transformers_opens_it_and_says_the_same(loaded):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = organism.checkpoint("aligned")
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype="float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model, params, ours = loaded["aligned"]
    examples = [
        corpus.examples("test", language, kind, False)[3]
        for language in ("de", "ja", "th", "zh")
        for kind in ("restricted", "benign")
    ]
    prompts = [prompt_tokens(ours, example.prompt) for example in examples]
    said = generate_tokens(model, params, prompts, stop_ids(ours), 40, batch_size=8)
    for prompt, tokens, example in zip(prompts, said, examples, strict=True):
        messages = [{"role": "user", "content": example.prompt}]
        encoded = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        assert encoded["input_ids"][0].tolist() == prompt
        out = reference.generate(**encoded, max_new_tokens=40)[0, len(prompt) :].tolist()
        assert out == [*tokens, tokenizer.eos_token_id]


def test_it_is_small(loaded):
    for model, params, _ in loaded.values():
        assert 1e6 <= sum(leaf.size for leaf in jax.tree.leaves(params)) <= 3e6
        assert model.config.num_layers == 4
    weights = sum(path.stat().st_size for path in organism.CHECKPOINTS.rglob("*.safetensors"))
    assert weights <= 15e6


def test_the_recipe_is_the_config_file_s(loaded):
    import importlib.util

    path = pathlib.Path(__file__).parents[2] / "configs" / "organism.py"
    spec = importlib.util.spec_from_file_location("organism_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    for name in ACCEPTANCE:
        written = json.loads((organism.checkpoint(name) / "organism.json").read_text())
        assert written["decision_token"] == config.sharing.decision_token
        assert written["recipe"] == config.to_dict()
