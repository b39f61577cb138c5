"""Prompts that a model can read, and one line for those that it cannot."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

import jaxattack as ja
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.models.generate import generate_tokens
from jaxattack.models.prompts import check_lengths, encode_prompts, positions
from jaxattack.models.sampling import Sampling

QUESTIONS = ["What is it?", "What is the currency of Japan?", "Hi"]


def ask(tiny, prompts, new=4):
    return ja.generate(tiny.model, tiny.params, tiny.tokenizer, prompts, max_new_tokens=new)


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        ([], "the list is empty"),
        ("Hi", "are a list"),
        (None, "are a list"),
        (["Hi", ""], "prompt '1': the prompt is empty"),
        (["Hi", 5], "prompt '1'"),
        ([float("nan")], "prompt '0'"),
        ([[]], "prompt '0': the prompt is empty"),
    ],
)
def test_prompts_that_are_none_are_refused(tiny, prompts, match):
    with pytest.raises(UserError, match=match):
        ask(tiny, prompts)


def test_a_reply_of_no_tokens_is_refused(tiny):
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        ask(tiny, ["Hi"], 0)


def test_prompts_beyond_the_models_positions_are_counted_and_the_longest_is_named(tiny):
    config, lengths = tiny.model.config, [100, 216, 217, 240]
    check_lengths(config, lengths[:2], 40, ["a", "b"])
    with pytest.raises(UserError, match=r"2 of 4 prompts .* 256 positions .* 40 .*'d', has 240"):
        check_lengths(config, lengths, 40, ["a", "b", "c", "d"])
    examples = [Example("short", "en", "Hi"), Example("long", "en", "Hi " * 300)]
    with pytest.raises(UserError, match=r"1 of 2 prompts .*'long'"):
        ja.ask(tiny.model, tiny.params, tiny.tokenizer, examples, 4)


def test_how_many_positions_there_are(tiny):
    config = tiny.model.config
    assert positions(config) == 256
    rope = dataclasses.replace(config.rope, kind="linear", factor=4.0)
    assert positions(dataclasses.replace(config, rope=rope)) == 1024
    assert positions(dataclasses.replace(config, rope=rope, family="gemma3_text")) == 256
    assert positions(dataclasses.replace(config, rope=None)) is None


def test_tokens_are_those_asked(tiny):
    encoded = encode_prompts(tiny.model.config, tiny.tokenizer, QUESTIONS, 4)
    asked = [tiny.tokenizer.encode(f"<|user|>{text}<|end|><|assistant|>") for text in QUESTIONS]
    assert encoded == asked


def test_generation_stops_where_the_models_config_says(tiny):
    (free,) = generate_tokens(
        tiny.model,
        tiny.params,
        encode_prompts(tiny.model.config, tiny.tokenizer, QUESTIONS[:1], 16),
        (),
        16,
    )
    model = tiny.model.clone(config=dataclasses.replace(tiny.model.config, stops=(free[3],)))
    (text,) = ja.generate(model, tiny.params, tiny.tokenizer, QUESTIONS[:1], max_new_tokens=16)
    short = free[: free.index(free[3])]
    assert text == tiny.tokenizer.decode(short, skip_special_tokens=True)
    (reply,) = ja.ask(model, tiny.params, tiny.tokenizer, [Example("a", "en", QUESTIONS[0])], 16)
    assert not reply.cut


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, top_k=5)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_say_nothing(tiny, value, sampling):
    params = copy.copy(tiny.params)
    params["final_norm"] = jax.tree.map(lambda leaf: leaf * value, params["final_norm"])
    for stops in ((), (3,)):
        with pytest.raises(UserError, match="not finite"):
            generate_tokens(tiny.model, params, [[5, 6], [7]], stops, 4, sampling=sampling)
