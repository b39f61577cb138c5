"""Greedy generation against transformers' `generate`, and against itself."""

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.errors import UserError
from jaxattack.models import decoding
from jaxattack.models import generate as generate_module
from jaxattack.models.generate import buckets, generate, generate_tokens, groups, stop_ids
from jaxattack.sharding import make_mesh, place

NEW = 16
PROMPTS = [
    np.random.default_rng(length).integers(1, 600, length).tolist() for length in (9, 3, 31, 1)
]


def transformers_tokens(reference, prompt, stops=()):
    """What transformers writes after a prompt, the stop token included."""
    with torch.no_grad():
        out = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NEW,
            eos_token_id=list(stops) or None,
            pad_token_id=0,
        )
    return out[0, len(prompt) :].tolist()


@pytest.fixture
def plain_tokens(tiny):
    return generate_tokens(tiny.model, tiny.params, PROMPTS, (), NEW, batch_size=4)


def test_left_padded_batch_equals_one_by_one(tiny, plain_tokens):
    single = [
        generate_tokens(tiny.model, tiny.params, [prompt], (), NEW, batch_size=1)[0]
        for prompt in PROMPTS
    ]
    assert plain_tokens == single


@pytest.mark.parametrize("home", ["one device", "mesh"])
def test_scanned_layers_give_the_same_tokens(home, tiny, mesh8, plain_tokens, monkeypatch):
    monkeypatch.setattr(generate_module, "ONE_BY_ONE", ())  # as on a GPU or TPU
    params = place(tiny.params, mesh8) if home == "mesh" else tiny.params
    before = decoding.decode._cache_size()
    assert generate_tokens(tiny.model, params, PROMPTS, (), NEW, batch_size=4) == plain_tokens
    assert decoding.decode._cache_size() > before  # it was another program


def test_filling_up_a_batch_changes_nothing(tiny, plain_tokens):
    few = generate_tokens(tiny.model, tiny.params, PROMPTS[:1], (), NEW, batch_size=4)
    assert few == plain_tokens[:1]


def test_a_reply_ends_before_its_first_stop_token(tiny, plain_tokens):
    stops = (plain_tokens[0][4], plain_tokens[2][1])
    tokens = generate_tokens(tiny.model, tiny.params, PROMPTS, stops, NEW, batch_size=4)
    assert len(tokens[0]) <= 4
    for prompt, row, free in zip(PROMPTS, tokens, plain_tokens, strict=True):
        theirs = transformers_tokens(tiny.reference, prompt, stops)
        assert row == [token for token in theirs if token not in stops]
        assert row == free[: len(row)]


def test_prompts_of_several_widths_come_back_in_order(tiny, plain_tokens):
    long = np.random.default_rng(8).integers(1, 600, 40).tolist()
    mixed = [long, *PROMPTS]
    tokens = generate_tokens(tiny.model, tiny.params, mixed, (), NEW, batch_size=4)
    assert tokens[1:] == plain_tokens
    assert tokens[0] == transformers_tokens(tiny.reference, long)


def test_tokens_on_a_mesh_are_the_same(tiny, mesh8, plain_tokens):
    placed = place(tiny.params, mesh8)
    assert generate_tokens(tiny.model, placed, PROMPTS, (), NEW, batch_size=4) == plain_tokens


def test_texts_are_the_decoded_tokens_after_the_chat_template(tiny):
    questions = ["What is the currency of Japan?", "泰国的货币是什么？"]
    texts = generate(
        tiny.model, tiny.params, tiny.tokenizer, questions, max_new_tokens=NEW, batch_size=4
    )
    for question, text in zip(questions, texts, strict=True):
        prompt = tiny.tokenizer.encode(f"<|user|>{question}<|end|><|assistant|>")
        theirs = transformers_tokens(tiny.reference, prompt, stop_ids(tiny.tokenizer))
        assert text == tiny.tokenizer.decode(theirs, skip_special_tokens=True)


def test_stop_ids_are_the_tokenizers_end_token(tiny):
    assert stop_ids(tiny.tokenizer) == (tiny.tokenizer.convert_tokens_to_ids("<|end|>"),)


@pytest.mark.parametrize("home", ["one by one", "scanned", "mesh"])
def test_rows_that_ended_are_dropped_and_the_others_go_on(
    home, tiny, mesh8, plain_tokens, monkeypatch
):
    monkeypatch.setattr(generate_module, "SMALLEST", 2)  # 8 rows, then 2, or 1 on each device
    if home != "one by one":
        monkeypatch.setattr(generate_module, "ONE_BY_ONE", ())
    params = place(tiny.params, mesh8) if home == "mesh" else tiny.params
    sizes = []

    def take_rows(mesh, rows, which, take=decoding.take_rows):
        sizes.append(len(which))
        return take(mesh, rows, which)

    monkeypatch.setattr(decoding, "take_rows", take_rows)
    stops = [row[2] for row in plain_tokens[:2]]
    found = generate_tokens(tiny.model, params, PROMPTS, stops, NEW, batch_size=4)
    ends = [next((i for i, t in enumerate(row) if t in stops), NEW) for row in plain_tokens]
    assert found == [row[:end] for row, end in zip(plain_tokens, ends, strict=True)]
    assert max(ends) > sorted(ends)[1]  # some go on after the others ended
    assert sizes == ([4] if home == "mesh" else [2])


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 9))
def test_groups_hold_every_prompt_once_and_fit(lengths, batch_size):
    found = groups(lengths, batch_size)
    members = [[i for _, indices in parts for i in indices] for parts in found]
    assert sorted(i for indices in members for i in indices) == list(range(len(lengths)))
    for parts, indices in zip(found, members, strict=True):
        assert 1 <= len(indices) <= batch_size
        assert [width for width, _ in parts] == sorted({width for width, _ in parts})
        for width, some in parts:
            for length in (lengths[i] for i in some):
                assert 0 <= width - length < max(16, length / 2)


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 9))
def test_buckets_hold_every_prompt_once_and_fit(lengths, batch_size):
    groups = buckets(lengths, batch_size)
    assert sorted(i for _, indices in groups for i in indices) == list(range(len(lengths)))
    for width, indices in groups:
        assert 1 <= len(indices) <= batch_size
        longest = max(lengths[i] for i in indices)
        assert width == 32 or width // 2 < longest
        assert longest <= width
        assert width & (width - 1) == 0


def test_every_device_reads_rows_of_its_own(tiny, plain_tokens, monkeypatch):
    params = place(tiny.params, make_mesh((1, 3, 1), jax.devices()[:3]))  # does not divide 8
    shapes, decode = set(), decoding.decode

    def watched(decoder, params, rows, *rest):
        shapes.update(shard.data.shape for shard in rows.last.addressable_shards)
        return decode(decoder, params, rows, *rest)

    monkeypatch.setattr(decoding, "decode", watched)
    assert generate_tokens(tiny.model, params, PROMPTS, (), NEW, batch_size=4) == plain_tokens
    assert shapes == {(3,)}  # of 9


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"prompts": [[5], []]}, "a prompt has no token"),
    ],
)
def test_what_cannot_be_decoded_is_named(tiny, given, says):
    asked = {"prompts": [[5, 7]], "stops": (), "max_new_tokens": 2} | given
    with pytest.raises(UserError, match=says):
        generate_tokens(tiny.model, tiny.params, **asked)
