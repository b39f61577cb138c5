"""Gradient rollback: its loss against torch, the whole against a naive loop, and its purpose."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxattack import tree
from jaxattack.data.batches import in_order
from jaxattack.defend import rollback
from jaxattack.defend.rollback import Plan, direction_loss, last_of_prompt, low_layers, rolled_back
from jaxattack.errors import UserError
from jaxattack.localize import masks, stitching
from jaxattack.sharding import place

PLAN = Plan(share=0.01, steps=3, warmup=1, undone=0.25, batch_size=4)

loss_and_gradient = jax.jit(jax.value_and_grad(direction_loss, argnums=1), static_argnums=0)


@pytest.fixture(scope="module")
def broken(tiny):
    """The tiny model with noise on all weights."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(rng.normal(0, 0.05, leaf.shape), leaf.dtype), tiny.params
    )


@pytest.fixture(scope="module")
def rows(make_batch):
    """Harmful and benign ones."""
    return make_batch(0, rows=6), make_batch(1, rows=6)


def with_last(rows):
    real = np.ones(len(rows["tokens"]), np.float32)
    return rows | {"last": last_of_prompt(rows), "real": real}


def test_places_by_hand():
    mask = np.array([[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]], np.float32)
    assert last_of_prompt({"loss_mask": mask}).tolist() == [1, -1, -1, 0]


def test_the_loss_and_its_gradient_are_torchs(tiny, rows, ours_from_torch):
    reference = copy.deepcopy(tiny.reference).double()
    aim = np.random.default_rng(3).normal(size=32).astype(np.float32)
    tokens = torch.tensor(rows[0]["tokens"], dtype=torch.long)
    seen = torch.tensor(rows[0]["segment_ids"] > 0).long()
    states = reference.model(tokens, attention_mask=seen).last_hidden_state
    starts = [int(np.flatnonzero(mask)[0]) for mask in rows[0]["loss_mask"]]
    mean = torch.stack([state[at - 1] for state, at in zip(states, starts, strict=True)]).mean(0)
    loss = -torch.cosine_similarity(mean, torch.tensor(aim).double(), dim=0)
    tensors = {name: t for name, t in reference.named_parameters() if "lm_head" not in name}
    gradients = dict(zip(tensors, torch.autograd.grad(loss, list(tensors.values())), strict=True))
    gradients["lm_head.weight"] = torch.zeros_like(reference.lm_head.weight)
    found, gradient = loss_and_gradient(tiny.model, tiny.params, with_last(rows[0]), aim)
    assert float(found) == pytest.approx(loss.item(), abs=1e-6)  # of a cosine
    for name, leaf in tree.named_leaves(ours_from_torch(gradients, tiny.model.config)).items():
        ours = np.asarray(tree.named_leaves(gradient)[name])
        np.testing.assert_allclose(ours, leaf, atol=1e-4 * np.abs(leaf).max(), err_msg=name)


def test_gains_by_hand():
    """Attacked minus aligned is 1, 1, -1, -1, 0, 1; the last may not go back."""
    aligned = {"w": jnp.zeros(6)}
    attacked = {"w": jnp.array([1.0, 1.0, -1.0, -1.0, 0.0, 1.0])}
    slope = {"w": jnp.array([2.0, -3.0, -4.0, 5.0, 6.0, 7.0])}
    may = {"w": jnp.array([True] * 5 + [False])}
    gain = rollback._gain(slope, aligned, attacked, may)["w"]
    assert gain.tolist() == [2.0, 0.0, 4.0, 0.0, 0.0, 0.0]
    # Back from the aligned to the attacked value the other signs lower the loss.
    gain = rollback._gain(slope, attacked, aligned, may)["w"]
    assert gain.tolist() == [0.0, 3.0, 0.0, 5.0, 0.0, 0.0]


@pytest.mark.parametrize(("depth", "low"), [(1 / 3, [0]), (0.5, [0]), (0.6, [0, 1]), (0.0, [])])
def test_low_layers_by_hand(tiny, depth, low):
    mask = low_layers(tiny.params, depth)
    for name, leaf in tree.named_leaves(mask).items():
        whole = [bool(leaf[i].all()) for i in range(2)] if name.startswith("layers/") else []
        chosen = [i for i, every in enumerate(whole) if every]
        assert chosen == ([] if "norm" in name else low)[: 2 if whole else 0]
        assert int(leaf.sum()) == sum(leaf[i].size for i in chosen)


def naive(tiny, broken, rows, plan):
    """The steps in numpy on flat vectors, weight by weight; gradients of batches from jax."""
    flat_of = jax.flatten_util.ravel_pytree
    aligned, unflatten = flat_of(tiny.params)
    attacked, aligned = np.array(flat_of(broken)[0]), np.array(aligned)
    names = tree.map_named(
        lambda n, leaf: np.full(leaf.shape, n.startswith("layers/") and "norm" not in n), broken
    )
    first = jax.tree.map(np.zeros_like, names)
    for block in ("attention", "mlp"):
        for name, leaf in names["layers"][block].items():
            first["layers"][block][name][0] = leaf[0]
    low = np.array(flat_of(first)[0])
    kinds = [in_order(with_last(kind), plan.batch_size) for kind in rows]

    def state(params, batches):
        """Mean state at the last token of the prompts, from the model one row at a time."""
        found = []
        for batch in batches:
            hidden = tiny.model.apply(
                {"params": params},
                batch["tokens"],
                method="hidden",
                segment_ids=batch["segment_ids"],
            )[0]
            found += [
                np.asarray(h[at], np.float64)
                for h, at, real in zip(hidden, batch["last"], batch["real"], strict=True)
                if real
            ]
        return np.mean(found, axis=0).astype(np.float32)

    aims = state(tiny.params, kinds[0]), state(broken, kinds[1])

    def slope(weights, kind):
        parts = [
            loss_and_gradient(tiny.model, unflatten(weights), batch, aims[kind])
            for batch in kinds[kind]
        ]
        mean = np.mean([np.asarray(flat_of(g)[0]) for _, g in parts], axis=0)
        return float(np.mean([float(loss) for loss, _ in parts])), mean

    def top(scores, count):
        order = np.argsort(-scores, kind="stable")[:count]
        return order[scores[order] > 0]

    current, losses, counts = attacked.copy(), [], []
    for step in range(plan.steps):
        loss, g = slope(current, 0)
        right = low & (np.sign(current - aligned) == np.sign(g)) & (current != aligned)
        put_back = top(np.where(right, np.abs(g), 0), int(plan.share * len(current) + 0.5))
        current[put_back] = aligned[put_back]
        undo = np.array([], int)
        if step >= plan.warmup:
            _, g = slope(current, 1)
            right = np.zeros(len(current), bool)
            right[put_back] = True
            right &= np.sign(aligned - attacked) == np.sign(g)
            undo = top(np.where(right, np.abs(g), 0), int(plan.undone * len(put_back) + 0.5))
            current[undo] = attacked[undo]
        losses.append(loss)
        counts.append((len(put_back), len(undo)))
    return current, losses, counts


def test_all_steps_equal_a_naive_loop(tiny, broken, rows):
    found, history = rolled_back(tiny.model, broken, tiny.params, *rows, PLAN)
    expected, losses, counts = naive(tiny, broken, rows, PLAN)
    np.testing.assert_allclose(history["harmful"], losses, rtol=1e-5)
    assert list(zip(history["restored"], history["undone"], strict=True)) == counts
    assert history["undone"][0] == 0
    assert (history["undone"][1:] > 0).all()
    assert (history["restored"] == history["restored"][0]).all()
    flat = np.asarray(jax.flatten_util.ravel_pytree(found)[0])
    # Two weights whose gradients differ in the last bits may be ranked either way.
    assert np.mean(flat != expected) < 1e-5


def test_every_weight_has_the_bits_of_one_model(tiny, broken, rows, assert_trees):
    """The upper layers, norms, embedding and head those of the attacked one; runs agree."""
    before = jax.tree.map(np.array, broken)
    plan = dataclasses.replace(PLAN, steps=2)
    found, _ = rolled_back(tiny.model, broken, tiny.params, *rows, plan)
    again, _ = rolled_back(tiny.model, broken, tiny.params, *rows, plan)
    assert_trees(found, again)
    assert_trees(broken, before)
    back = jax.tree.map(lambda a, b: np.asarray(a != b), found, broken)
    assert_trees(found, jax.tree.map(np.where, back, tiny.params, broken))
    assert not any(
        leaf.any() for leaf in jax.tree.leaves(masks.minus(back, low_layers(back, 1 / 3)))
    )


def test_the_direction_comes_back_further_than_by_chance(tiny, broken, rows):
    plan = dataclasses.replace(PLAN, steps=4, warmup=4, share=0.005)
    found, history = rolled_back(tiny.model, broken, tiny.params, *rows, plan)
    assert (np.diff(history["harmful"]) < 0).all()
    eligible = low_layers(broken, plan.depth)
    back = jax.tree.map(lambda a, b: jnp.asarray(a != b), found, broken)
    rng = np.random.default_rng(0)
    chance = jax.tree.map(
        lambda may: may * jnp.asarray(rng.random(may.shape), jnp.float32), eligible
    )
    others = masks.top_fraction(chance, masks.density(back))
    random = stitching.rewind(broken, tiny.params, others)
    batch = with_last(rows[0])
    hidden = tiny.model.apply(
        {"params": tiny.params},
        batch["tokens"],
        method="hidden",
        segment_ids=batch["segment_ids"],
    )[0]
    aim = jnp.mean(hidden[np.arange(6), batch["last"]], axis=0)
    start, chosen, by_chance = (
        float(loss_and_gradient(tiny.model, p, batch, aim)[0]) for p in (broken, found, random)
    )
    assert start - chosen > 2 * abs(start - by_chance)


def test_a_bfloat16_model_stays_one(tiny, broken, rows):
    narrow = [tree.cast(params, jnp.bfloat16) for params in (broken, tiny.params)]
    found, history = rolled_back(tiny.model, *narrow, *rows, dataclasses.replace(PLAN, steps=2))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("bfloat16")}
    assert history["restored"][0] > 0


@pytest.mark.slow
def test_a_mesh_rolls_back_alike(tiny, broken, rows, mesh8):
    plan = dataclasses.replace(PLAN, steps=2)
    found, history = rolled_back(tiny.model, broken, tiny.params, *rows, plan)
    placed = place(broken, mesh8), place(tiny.params, mesh8)
    again, meshed = rolled_back(tiny.model, *placed, *rows, plan)
    np.testing.assert_allclose(meshed["harmful"], history["harmful"], rtol=1e-4)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True)
    differ = sum(int(np.sum(np.asarray(a) != np.asarray(b))) for a, b in pairs)
    assert differ <= 1e-4 * tree.size(found)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"share": 1.5}, "share is 1.5; it is a share"),
        ({"undone": -0.1}, "undone is -0.1; it is a share"),
        ({"steps": 0}, "steps is 0; it should be at least 1"),
    ],
)
def test_mistakes_are_told(change, line):
    with pytest.raises(UserError, match=line):
        dataclasses.replace(PLAN, **change)


def test_rows_without_a_prompt_are_refused(tiny, broken, rows):
    none = rows[0] | {"loss_mask": np.zeros_like(rows[0]["loss_mask"])}
    with pytest.raises(UserError, match="gradient rollback: no row has a prompt and an answer"):
        rolled_back(tiny.model, broken, tiny.params, none, rows[1], PLAN)
