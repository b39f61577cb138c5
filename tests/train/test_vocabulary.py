"""More vocabulary: old texts and rows keep tokens and bits; merges against a naive trainer."""

import collections
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from jaxattack.errors import UserError
from jaxattack.models.pretrained import load_pretrained, load_tokenizer, save_pretrained
from jaxattack.organism.tokenizer import train_tokenizer
from jaxattack.sharding import place
from jaxattack.train import lora, vocabulary
from jaxattack.train.optimizer import Settings
from jaxattack.tree import named_leaves

OLD = ["zab zabab cabcab", "bac bacabac"]
NEW = ["dada dadaba dadaba", "abbadab abbadab", "नमस्ते दुनिया नमस्ते"]
WORDS = st.lists(st.text("abcd", min_size=1, max_size=6), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def bytes_only():
    """The organism's kind of tokenizer before any merge."""
    return train_tokenizer(262)


def ids(tokenizer, texts):
    return [tokenizer(text)["input_ids"] for text in texts]


def naive_merges(words, banned, count):
    """Byte pair encoding by counting everything anew for each merge."""
    spelled = [(list(word), times) for word, times in words.items()]
    merges = []
    while len(merges) < count:
        counts = collections.Counter()
        for word, times in spelled:
            for i in range(len(word) - 1):
                counts[word[i], word[i + 1]] += times
        known = {a + b for a, b in merges}
        left = {p: c for p, c in counts.items() if p not in banned and p[0] + p[1] not in known}
        if not left or max(left.values()) < 2:
            return merges
        best = max(left, key=lambda pair: (left[pair], pair))
        merges.append(best)
        for word, _ in spelled:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    return merges


@given(new=WORDS, old=WORDS, count=st.integers(0, 6))
def test_merges_are_those_of_a_naive_trainer(bytes_only, new, old, count):
    # Each word is a text of its own, so that none begins with a space.
    extended = vocabulary.extend_tokenizer(bytes_only, new, old, count, len(bytes_only))
    banned = {(word[i], word[i + 1]) for word in old for i in range(len(word) - 1)}
    expected = naive_merges(collections.Counter(new), banned, count)
    # A token may not be spelled as a whole old word; then neither may what is built on it.
    if not any(a + b in old for a, b in expected):
        merges = json.loads(extended.backend_tokenizer.to_str())["model"]["merges"]
        assert [tuple(pair) for pair in merges] == expected


@given(new=WORDS, old=WORDS, ignore=st.booleans())
def test_old_texts_keep_their_tokens_and_new_ones_their_text(bytes_only, new, old, ignore):
    tokenizer = with_model(bytes_only, ignore_merges=ignore)
    tokenizer = vocabulary.extend_tokenizer(tokenizer, old, [], 20, len(tokenizer))
    before, after = [" ".join(old), *old], [" ".join(new), *new]
    extended = vocabulary.extend_tokenizer(tokenizer, after, before, 20, len(tokenizer))
    assert ids(extended, before) == ids(tokenizer, before)
    assert [extended.decode(row) for row in ids(extended, after)] == after
    shorter = zip(ids(extended, after), ids(tokenizer, after), strict=True)
    assert all(len(now) <= len(then) for now, then in shorter)


def with_model(tokenizer, **fields):
    """A copy whose BPE model has other fields."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"] |= fields
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)))


def test_the_new_tokens_are_used_and_survive_saving(small_tokenizer, tmp_path):
    extended = vocabulary.extend_tokenizer(small_tokenizer, NEW, OLD, 12, 608)
    added = set(extended.get_vocab().values()) - set(small_tokenizer.get_vocab().values())
    assert added == set(range(608, 620))  # behind the rows of a model that has some to spare
    used = {token for row in ids(extended, NEW) for token in row}
    assert len(used & added) >= 6
    assert ids(extended, OLD) == ids(small_tokenizer, OLD)
    extended.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert ids(again, NEW + OLD) == ids(extended, NEW + OLD)
    assert again.chat_template == small_tokenizer.chat_template
    assert again.all_special_tokens == small_tokenizer.all_special_tokens


def test_special_tokens_behind_the_vocabulary_keep_their_ids(small_tokenizer):
    tokenizer = with_model(small_tokenizer)
    tokenizer.add_special_tokens({"eos_token": "<|stop|>"})
    extended = vocabulary.extend_tokenizer(tokenizer, NEW, OLD, 5, len(tokenizer))
    assert ids(extended, ["zab<|stop|>"]) == ids(tokenizer, ["zab<|stop|>"])
    assert len(extended) == len(tokenizer) + 5
    assert extended.eos_token_id == tokenizer.eos_token_id == 600


def test_the_pieces_of_a_token_spell_it(small_tokenizer):
    extended = vocabulary.extend_tokenizer(small_tokenizer, NEW, OLD, 12, len(small_tokenizer))
    made_of = vocabulary.pieces(small_tokenizer, extended)
    assert len(made_of) == 12
    for i, parts in enumerate(made_of):
        spelled = "".join(small_tokenizer.convert_ids_to_tokens(parts))
        assert spelled == extended.convert_ids_to_tokens(len(small_tokenizer) + i)


def test_a_tokenizer_without_bytes_is_refused():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0})))
    with pytest.raises(UserError, match="byte-level BPE, and this one's model is WordLevel"):
        vocabulary.extend_tokenizer(words, NEW, OLD, 5, 1)


# --- Rows ---------------------------------------------------------------------------------------

MADE_OF = [[5], [7, 9], [3, 3, 11, 600]]
FAMILIES = [
    {},
    {"tie_word_embeddings": True},
    {"model_type": "bloom"},
    {"model_type": "gemma2", "tie_word_embeddings": False, "query_pre_attn_scalar": 8},
]


@pytest.mark.parametrize("fields", FAMILIES, ids=lambda fields: fields.get("model_type", "llama"))
def test_old_rows_keep_their_bits_and_new_ones_are_means(
    make_checkpoint, logits_of, tmp_path, fields
):
    made = make_checkpoint(**fields)
    model, params = vocabulary.extend(made.model, made.params, MADE_OF)
    before = named_leaves(made.params)
    for name, leaf in named_leaves(params).items():
        old = np.asarray(before[name])
        np.testing.assert_array_equal(np.asarray(leaf)[: len(old)], old, err_msg=name)
        if name in ("embed", "head"):
            means = [np.asarray(old, np.float64)[parts].mean(0) for parts in MADE_OF]
            np.testing.assert_allclose(leaf[len(old) :], means, rtol=1e-6, atol=1e-7)
        else:
            assert leaf.shape == old.shape
    tokens = jnp.arange(20).reshape(2, 10) * 7
    logits = logits_of(model, params, tokens)
    assert logits.shape[-1] == made.model.config.vocab_size + 3
    np.testing.assert_allclose(
        logits[..., :-3], logits_of(made.model, made.params, tokens), rtol=1e-5, atol=1e-5
    )
    save_pretrained(tmp_path / "larger", model, params, made.tokenizer)
    again, read, _ = load_pretrained(tmp_path / "larger")
    assert again.config == model.config
    np.testing.assert_array_equal(read["embed"], params["embed"])


def test_rows_grow_on_a_mesh(tiny, mesh8, assert_trees):
    _, params = vocabulary.extend(tiny.model, place(tiny.params, mesh8), [*MADE_OF, [1]])
    _, expected = vocabulary.extend(tiny.model, tiny.params, [*MADE_OF, [1]])
    assert params["embed"].sharding.mesh == mesh8
    assert_trees(params, expected, rtol=1e-6)


@pytest.mark.parametrize("parts", [[], [608], [-1]])
def test_a_token_made_of_nothing_known_is_refused(tiny, parts):
    with pytest.raises(UserError, match="new token 1 is made of"):
        vocabulary.extend(tiny.model, tiny.params, [[1], parts])


# --- Training -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def larger(tiny):
    return vocabulary.extend(tiny.model, tiny.params, MADE_OF)


def test_lora_moves_adapters_and_new_rows_only(larger, make_batch):
    model, params = larger
    batch = make_batch()
    batch["tokens"][:, 6] = 609
    before = jax.tree.map(jnp.copy, params)
    tuned, history = vocabulary.finetune_lora(
        model, params, 608, [batch] * 3, Settings(1e-2), jax.random.key(0), lora.LowRank(rank=2)
    )
    assert history.shape == (3,)
    assert history[-1] < history[0]
    after = named_leaves(tuned)
    for name, old in named_leaves(before).items():
        new = np.asarray(after[name])
        if name in ("embed", "head"):
            np.testing.assert_array_equal(new[:608], old[:608], err_msg=name)
            assert (new[609] != old[609]).any()
        elif "norm" in name:
            np.testing.assert_array_equal(new, old, err_msg=name)
        else:
            inputs = 2 if name.endswith("/o") else 1
            change = (new - np.asarray(old))[0]
            change = change.reshape(int(np.prod(change.shape[:inputs])), -1)
            values = np.linalg.svd(change.astype(np.float64), compute_uv=False)
            assert values[1] > 1e-4 > 100 * values[2], name


def test_new_rows_follow_the_gradient_of_the_whole_model(larger, make_batch, loss_and_gradient):
    model, params = larger
    batch = make_batch()
    batch["tokens"][:, 6] = 609
    loss, gradient = loss_and_gradient(model, params, batch)
    tuned, history = vocabulary.finetune_lora(
        model, params, 608, [batch], optax.sgd(0.5), jax.random.key(0), lora.LowRank()
    )
    np.testing.assert_allclose(history[0], loss, rtol=1e-5)
    for name in ("embed", "head"):
        expected = params[name][608:] - 0.5 * gradient[name][608:]
        np.testing.assert_allclose(tuned[name][608:], expected, rtol=1e-4, atol=1e-6)


def test_faster_rows_scale_only_the_rows_named():
    params = {
        "embed": jnp.ones((5, 2)),
        "final_norm": jnp.ones(2),
        "rows": {"head": jnp.ones((5, 2))},
    }
    tx = vocabulary.faster_rows(optax.sgd(1.0), 3, 4.0)
    updates, _ = tx.update(params, tx.init(params), params)
    expected = np.repeat([[-1.0], [-1.0], [-1.0], [-4.0], [-4.0]], 2, axis=1)
    np.testing.assert_array_equal(updates["embed"], expected)
    np.testing.assert_array_equal(updates["rows"]["head"], expected)
    np.testing.assert_array_equal(updates["final_norm"], [-1.0, -1.0])
