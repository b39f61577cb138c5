"""SIL scores against a loop over single examples, in jax and in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack import organism, tree
from jaxattack.data.batches import in_order, take
from jaxattack.data.dialogues import encode_pairs
from jaxattack.errors import UserError
from jaxattack.experiments import inputs
from jaxattack.localize import scores as scores_module
from jaxattack.localize.masks import top_fraction
from jaxattack.localize.scores import attack_vector, gradient_moments, mean_gradient, sil_scores
from jaxattack.models.pretrained import load_pretrained
from jaxattack.sharding import make_mesh, place
from jaxattack.train.losses import answer_loss

POINTS = ("aligned", "attacked")


@pytest.fixture(scope="module")
def attacked(tiny):
    """The tiny checkpoint, every weight a little elsewhere."""
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda leaf: leaf + 0.01 * rng.normal(size=leaf.shape).astype(np.float32), tiny.params
    )


@pytest.fixture(scope="module")
def batches(make_batch):
    """Six examples and two rows that fill up."""
    return [make_batch(seed=1), make_batch(seed=2, empty=2)]


@pytest.fixture(scope="module")
def scores(tiny, attacked, batches):
    return {at: sil_scores(tiny.model, tiny.params, attacked, batches, at) for at in POINTS}


@pytest.fixture(scope="module")
def gradient_of(tiny, loss_and_gradient):
    return lambda params, batch: loss_and_gradient(tiny.model, params, batch)[1]


def own_loss(model, params, batch):
    """The answer loss, but not the one that is known to be taken together."""
    return answer_loss(model, params, batch)


def examples(batches):
    """Batches of one row each, without those that fill up."""
    for batch in batches:
        for row in range(len(batch["tokens"])):
            if batch["loss_mask"][row].any():
                yield {name: array[row : row + 1] for name, array in batch.items()}


def mean_abs(gradients):
    """Mean over examples of absolute values, in float64."""
    trees = [jax.tree.map(lambda g: np.abs(np.asarray(g, np.float64)), g) for g in gradients]
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def times_tau(gradients, attacked, aligned):
    return jax.tree.map(
        lambda grads, after, before: np.abs(np.float64(after) - np.float64(before)) * grads,
        gradients,
        attacked,
        aligned,
    )


def test_a_loss_of_ones_own_is_taken_one_example_at_a_time(
    tiny, attacked, batches, scores, assert_trees
):
    found = sil_scores(tiny.model, tiny.params, attacked, batches, loss_fn=own_loss)
    assert_trees(found, scores["aligned"], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("at", POINTS)
def test_scores_equal_a_loop_over_examples(
    at, tiny, attacked, batches, scores, gradient_of, assert_trees
):
    point = {"aligned": tiny.params, "attacked": attacked}[at]
    grads = mean_abs([gradient_of(point, example) for example in examples(batches)])
    expected = times_tau(grads, attacked, tiny.params)
    assert_trees(scores[at], expected, rtol=1e-4, atol=1e-8)  # the largest are 1e-3
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(scores[at]))


def test_scores_equal_torch_one_example_at_a_time(
    tiny, attacked, batches, scores, torch_answer_loss, ours_from_torch, assert_trees
):
    found = []
    for example in examples(batches):
        tiny.reference.zero_grad()
        torch_answer_loss(tiny.reference, example).backward()
        tensors = {name: weight.grad for name, weight in tiny.reference.named_parameters()}
        found.append(ours_from_torch(tensors, tiny.model.config))
    assert len(found) == 6
    expected = times_tau(mean_abs(found), attacked, tiny.params)
    assert_trees(scores["aligned"], expected, rtol=1e-4, atol=1e-9)


def test_all_moments_come_from_one_pass(tiny, batches, gradient_of, assert_trees):
    moments = {"abs": np.abs, "sum": np.asarray, "square": np.square}
    found, count = gradient_moments(
        tiny.model, tiny.params, batches, answer_loss, "moments", moments=tuple(moments)
    )
    assert count == 6
    grads = [gradient_of(tiny.params, example) for example in examples(batches)]
    for moment, function in moments.items():
        expected = jax.tree.map(
            lambda *leaves, f=function: sum(f(np.asarray(g, np.float64)) for g in leaves), *grads
        )
        assert_trees(found[moment], expected, rtol=1e-4, atol=1e-6)
    only, _ = gradient_moments(tiny.model, tiny.params, batches, answer_loss, "moments")
    assert set(only) == {"abs"}


def test_the_points_differ_and_the_order_of_mean_and_abs_matters(
    tiny, attacked, batches, scores, gradient_of
):
    aligned, other = (np.asarray(scores[at]["layers"]["mlp"]["up"]) for at in POINTS)
    assert np.abs(aligned - other).max() > 1e-2 * aligned.max()
    grads = [gradient_of(tiny.params, e)["layers"]["mlp"]["up"] for e in examples(batches)]
    tau = attacked["layers"]["mlp"]["up"] - tiny.params["layers"]["mlp"]["up"]
    snip = np.abs(tau * np.mean(grads, axis=0))  # SNIP's order: absolute value of the mean
    assert (aligned >= snip - 1e-9).all()
    assert (aligned > 1.1 * snip).mean() > 0.5


def test_rows_that_fill_up_are_not_counted(tiny, attacked, batches, scores, assert_trees):
    more = [*batches, {name: np.zeros_like(array) for name, array in batches[0].items()}]
    assert_trees(sil_scores(tiny.model, tiny.params, attacked, more), scores["aligned"], rtol=1e-6)


def test_a_loss_that_is_nan_on_empty_rows_does_no_harm(tiny, attacked, make_batch):
    def bare(model, params, batch):
        """Nothing but the embeddings, divided by zero for an empty row."""
        weights = batch["loss_mask"]
        return jnp.sum(params["embed"][batch["tokens"]].sum(-1) * weights) / jnp.sum(weights)

    batch = make_batch(seed=4, empty=1)
    found = sil_scores(tiny.model, tiny.params, attacked, [batch], loss_fn=bare)
    used = np.zeros((3, 608))
    for row in range(3):
        marked = batch["tokens"][row][batch["loss_mask"][row] > 0]
        np.add.at(used[row], marked, 1 / len(marked))
    tau = np.abs(attacked["embed"] - tiny.params["embed"])
    np.testing.assert_allclose(found["embed"], tau * used.mean(axis=0)[:, None], rtol=1e-5)
    assert not np.any(found["final_norm"])


def test_a_mesh_compiles_the_accumulation_once(tiny, attacked, batches, mesh8):
    def loss_of_its_own(model, params, batch):
        return answer_loss(model, params, batch)

    before = scores_module._accumulate._cache_size()
    placed = place(tiny.params, mesh8)
    sil_scores(tiny.model, placed, place(attacked, mesh8), batches, loss_fn=loss_of_its_own)
    assert len(batches) > 1
    assert scores_module._accumulate._cache_size() == before + 1


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 1, 1), {}),
        ((1, 8, 1), {}),
        ((2, 2, 2), {}),
        ((2, 2, 2), {"loss_fn": own_loss}),
        ((2, 2, 2), {"loss_fn": own_loss, "spread": False}),
    ],
)
def test_scores_and_masks_on_a_mesh_are_the_same(
    shape, options, tiny, attacked, batches, scores, assert_trees
):
    mesh = make_mesh(shape)
    found = sil_scores(
        tiny.model, place(tiny.params, mesh), place(attacked, mesh), batches, **options
    )
    assert_trees(found, scores["aligned"], rtol=1e-4, atol=1e-8)
    for fraction in (0.05, 0.2):
        wanted = top_fraction(scores["aligned"], fraction)
        assert_trees(top_fraction(found, fraction), wanted)


def test_examples_taken_together_are_split_over_the_devices(tiny, make_batch, mesh8):
    batch = make_batch(rows=8)
    examples = np.ones(8, bool)
    placed = place(tiny.params, mesh8)

    def work(together):
        totals = {"abs": placed}
        args = tiny.model, answer_loss, mesh8, together, totals, placed, batch, examples
        return scores_module._accumulate.lower(*args).compile().cost_analysis()["flops"]

    # XLA counts a loop's body once: two groups of four cost as much as one example cost before.
    assert work(4) < 1.5 * work(1)


def test_weights_that_did_not_move_score_zero(tiny, batches):
    found = sil_scores(tiny.model, tiny.params, tiny.params, batches)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found))


def test_the_attack_vector_is_taken_in_float32():
    after, before = jnp.bfloat16(1.0078125), jnp.bfloat16(1e-3)
    tau = attack_vector({"embed": after}, {"embed": before})["embed"]
    assert tau.dtype == jnp.float32
    assert float(tau) == np.float32(after) - np.float32(before)


def test_bad_questions_are_refused(tiny, attacked, batches):
    with pytest.raises(UserError, match="not 'middle'"):
        sil_scores(tiny.model, tiny.params, attacked, batches, at="middle")
    for nothing in ([], [{name: np.zeros_like(a) for name, a in batches[0].items()}]):
        with pytest.raises(UserError, match="no calibration example"):
            sil_scores(tiny.model, tiny.params, attacked, nothing)


@pytest.mark.parametrize("at", ["aligned", "attacked"])
def test_models_that_do_not_fit_are_refused_before_a_gradient(tiny, attacked, mesh8, at):
    apart = place(attacked, mesh8)
    on_host = jax.tree.map(np.asarray, tiny.params)
    for aligned in (tiny.params, on_host) if at == "aligned" else (tiny.params,):
        with pytest.raises(UserError, match=r"lies on cpu:0.*; load all onto one mesh"):
            sil_scores(tiny.model, aligned, apart, [], at=at)
    with pytest.raises(UserError, match=r"does not fit the \w+ model: embed: "):
        sil_scores(tiny.model, tiny.params, {"final_norm": attacked["final_norm"]}, [], at=at)
    with pytest.raises(UserError, match="embed of the attacked model lies on cpu:0, cpu:1"):
        attack_vector(apart, tiny.params)


def test_an_example_whose_only_mark_is_its_first_token_predicts_nothing(
    tiny, attacked, batches, scores, assert_trees
):
    # Nothing comes before a first token, so there is no prediction and no example to count.
    batch = {name: array.copy() for name, array in batches[1].items()}
    batch["tokens"][-1, :3] = 5
    batch["segment_ids"][-1, :3] = 1
    batch["loss_mask"][-1, 0] = 1
    found = sil_scores(tiny.model, tiny.params, attacked, [batches[0], batch])
    assert_trees(found, scores["aligned"], rtol=1e-6)


@pytest.mark.parametrize("moment", ["sum", "abs"])
def test_mean_gradients_are_those_of_a_loop(tiny, make_batch, moment):
    rows = make_batch(3)
    found = mean_gradient(tiny.model, tiny.params, [rows], moment=moment)
    gradient = jax.jit(jax.grad(answer_loss, argnums=1), static_argnums=0)
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), tiny.params)
    for i in range(len(rows["tokens"])):
        one = gradient(tiny.model, tiny.params, take(rows, np.array([i]), 1))
        size = np.abs if moment == "abs" else np.asarray
        total = jax.tree.map(lambda t, g, size=size: t + size(np.asarray(g)), total, one)
    for ours, sums in zip(jax.tree.leaves(found), jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(ours, sums / len(rows["tokens"]), rtol=2e-4, atol=1e-6)


def test_rows_without_answers_are_refused(tiny, make_batch):
    rows = make_batch(0)
    rows["loss_mask"] = np.zeros_like(rows["loss_mask"])
    with pytest.raises(UserError, match="no example has a token to predict"):
        mean_gradient(tiny.model, tiny.params, [rows])


def test_no_mean_of_sizes_or_squares_is_below_nothing():
    """What a lookup adds to a row that the head shares is a difference, and rounding has signs."""
    model, params, tokenizer = load_pretrained(organism.checkpoint("aligned"))
    pairs = inputs.load_examples(
        "organism:calibration", ("restricted",), True, organism.checkpoint("aligned")
    )[::21]
    rows = in_order(encode_pairs(tokenizer, pairs), 16)
    for moment in ("abs", "square"):
        found = mean_gradient(model, params, rows, moment=moment)
        lowest = {name: float(leaf.min()) for name, leaf in tree.named_leaves(found).items()}
        assert min(lowest.values()) >= 0, lowest
