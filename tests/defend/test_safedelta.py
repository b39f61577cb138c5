"""Safe Delta against column-by-column brain surgery with explicit inverses in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest
import torch

from jaxattack.defend import safedelta
from jaxattack.errors import UserError
from jaxattack.tree import map_named, named_leaves

MODULES = {  # of torch's models, by our names
    "q_proj": "attention/q",
    "k_proj": "attention/k",
    "v_proj": "attention/v",
    "o_proj": "attention/o",
    "gate_proj": "mlp/gate",
    "up_proj": "mlp/up",
    "down_proj": "mlp/down",
    "query_key_value": "attention/qkv",
    "self_attention.dense": "attention/o",
    "dense_h_to_4h": "mlp/up",
    "dense_4h_to_h": "mlp/down",
}


@pytest.fixture(scope="module")
def three(layout, tuned, make_batch):
    """Aligned, attacked, and the aligned model's moments."""
    batches = [make_batch(seed, rows=6) for seed in (0, 1)]
    moments = safedelta.second_moments(layout.model, layout.params, batches)
    return layout.params, tuned(layout.params, 1), moments


def test_moments_against_the_inputs_that_torch_sees(layout, make_batch):
    batch = make_batch(rows=3, empty=1)
    real = torch.tensor(batch["segment_ids"] > 0)
    seen = {}

    def watch(name):
        def hook(module, inputs):
            x = inputs[0].detach().double()[real]
            seen[name] = (x.T @ x / real.sum()).numpy()

        return hook

    handles = []
    for name, module in layout.reference.named_modules():
        ours = [place for end, place in MODULES.items() if name.endswith("." + end)]
        if ours:
            (layer,) = (int(part) for part in name.split(".") if part.isdigit())
            hook = watch((f"layers/{ours[0]}", layer))
            handles.append(module.register_forward_pre_hook(hook))
    with torch.no_grad():
        tokens = torch.tensor(batch["tokens"][:2], dtype=torch.long)
        real = real[:2]
        layout.reference(tokens, attention_mask=real.long())
    for handle in handles:
        handle.remove()
    parts = [{name: rows[i : i + 1] for name, rows in batch.items()} for i in range(3)]
    found = named_leaves(safedelta.second_moments(layout.model, layout.params, parts))
    assert {(name, layer) for name in found for layer in range(2)} == set(seen)
    assert set(seen) == set(papers.written(layout.params))
    for (name, layer), expected in seen.items():
        np.testing.assert_allclose(found[name][layer], expected, 1e-4, 1e-5, err_msg=name)


def naive(before, after, moments, budget, damping, last):
    """One matrix `[out, in]` corrected; which entries were kept; and the damped moments."""
    rows, columns = before.shape
    h = moments + damping * np.mean(np.diag(moments)) * np.eye(columns)
    inverses = [np.linalg.inv(h[j:, j:]) for j in range(columns)]
    factors = np.array([1 / inverse[0, 0] for inverse in inverses])
    entries = sorted((factors[j], j, i) for j in range(columns) for i in range(rows))
    entries = entries[: rows * columns - int(last * rows * columns)]
    kept, spent = np.zeros(before.shape, bool), 0.0
    for factor, j, i in entries:
        spent += (after[i, j] - before[i, j]) ** 2 * factor
        if spent > budget * np.mean(factors) * rows * columns / 4096**2:
            break
        kept[i, j] = True
    weights = before.copy()
    for j in range(columns):
        new = np.where(kept[:, j], after[:, j], weights[:, j])
        error = (weights[:, j] - new) / inverses[j][0, 0]
        weights[:, j:] -= np.outer(error, inverses[j][0])
        np.testing.assert_allclose(weights[:, j], new, atol=1e-9)
    return weights, kept, h


def all_naive(three, *args):
    before, after, moments = papers.written(three[0]), papers.written(three[1]), three[2]
    return {
        (name, layer): naive(
            matrix,
            after[name, layer],
            np.asarray(named_leaves(moments)[name][layer], np.float64),
            *args,
        )
        for (name, layer), matrix in before.items()
    }


@pytest.mark.parametrize(("budget", "damping", "last"), [(15_000.0, 0.01, 0.15), (1e9, 0.3, 0.4)])
def test_against_the_definition(budget, damping, last, three):
    expected = all_naive(three, budget, damping, last)
    shares = [kept.mean() for _, kept, _ in expected.values()]
    assert 0.05 < min(shares) <= max(shares) <= 1 - last + 0.01
    found = safedelta.kept(*three, budget, damping, last)
    matrices = {key: weights for key, (weights, _, _) in expected.items()}
    papers.check(found, matrices, three[0], rtol=1e-4, atol=1e-5)
    before, after = papers.written(three[0]), papers.written(three[1])
    plain = {key: np.where(kept, after[key], before[key]) for key, (_, kept, _) in expected.items()}
    found = safedelta.kept(*three, budget, damping, last, correct=False)
    papers.check(found, plain, three[0], rtol=0, atol=1e-12)


def wide(inputs, seed, layers=1, outputs=5):
    """A matrix of more inputs than are corrected at once, its moments dependent ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(layers, 2 * inputs, inputs)) @ rng.normal(size=(inputs, inputs))
    moments = np.einsum("lni,lnj->lij", x, x) / (2 * inputs)
    weights = rng.normal(size=(layers, inputs, outputs))
    change = rng.normal(0, 0.1, weights.shape)
    trees = (weights, weights + change, moments)
    return tuple({"layers": {"mlp": {"down": jnp.asarray(t, jnp.float32)}}} for t in trees)


@pytest.mark.parametrize("inputs", [128, 129, 260])
def test_blocks_of_inputs(inputs):
    three = wide(inputs, 0)
    found = safedelta.kept(*three, budget=40_000.0, damping=0.05)
    expected = all_naive(three, 40_000.0, 0.05, 0.15)
    assert all(0.1 < kept.mean() < 0.8 for _, kept, _ in expected.values())
    matrices = {key: weights for key, (weights, _, _) in expected.items()}
    papers.check(found, matrices, three[0])


def test_correction_spares_the_outputs():
    three = wide(60, 1)
    before = papers.written(three[0])
    corrected = papers.written(safedelta.kept(*three, 40_000.0))
    plain = papers.written(safedelta.kept(*three, 40_000.0, correct=False))
    for key, (_, kept, h) in all_naive(three, 40_000.0, 0.01, 0.15).items():
        # As kept entries are set, the best that the others can do about it is known.
        best = 0.0
        change = plain[key] - before[key]
        for row, fixed in zip(change, kept, strict=True):
            free = ~fixed
            pull = h[np.ix_(free, fixed)] @ row[fixed]
            ideal = row.copy()
            ideal[free] = -np.linalg.solve(h[np.ix_(free, free)], pull)
            best += ideal @ h @ ideal
        felt = {
            name: np.trace((w[key] - before[key]) @ h @ (w[key] - before[key]).T)
            for name, w in (("corrected", corrected), ("plain", plain))
        }
        np.testing.assert_array_equal((corrected[key] == plain[key]) & kept, kept)
        assert best * 0.999 < felt["corrected"] < 0.8 * felt["plain"]


def test_none_and_all(three):
    aligned, attacked, moments = three
    rest = map_named(
        lambda name, old, new: new if name in named_leaves(moments) else old, aligned, attacked
    )
    papers.same(safedelta.kept(*three, budget=1e12, last=0.0), rest)
    papers.same(safedelta.kept(*three, budget=0.0), aligned)
    papers.same(safedelta.kept(*three, budget=1e12, last=1.0), aligned)
    papers.same(safedelta.kept(aligned, aligned, moments), aligned)


def test_a_larger_budget_keeps_more(three):
    counts = []
    for budget in (0.11, 100.0, 5_000.0, 20_000.0):
        found = papers.written(safedelta.kept(*three, budget, correct=False))
        after = papers.written(three[1])
        counts.append({key: found[key] == after[key] for key in found})
    for fewer, more in itertools.pairwise(counts):
        assert all((more[key] | ~fewer[key]).all() for key in more)
        assert sum(m.sum() for m in more.values()) > sum(f.sum() for f in fewer.values())


def test_the_scale_of_the_moments_has_no_say(three):
    aligned, attacked, moments = three
    larger = jax.tree.map(lambda leaf: 64.0 * leaf, moments)
    papers.same(
        safedelta.kept(aligned, attacked, larger, 15_000.0), safedelta.kept(*three, 15_000.0)
    )


def test_an_input_without_use_is_free():
    three = wide(40, 2)
    moments = np.array(three[2]["layers"]["mlp"]["down"])
    moments[:, 7], moments[:, :, 7] = 0, 0
    three = (*three[:2], {"layers": {"mlp": {"down": jnp.asarray(moments)}}})
    found = safedelta.kept(*three, budget=2_000.0)["layers"]["mlp"]["down"]
    kept = np.asarray(found == three[1]["layers"]["mlp"]["down"])
    assert kept[:, 7].all()
    assert kept.mean() < 0.5


def test_types_are_those_of_the_attacked_model(three, tuned):
    aligned, _, moments = three
    half = tuned(aligned, 1, dtype=jnp.bfloat16)
    found = safedelta.kept(aligned, half, moments, 15_000.0)
    rounded = jax.tree.map(lambda w: w.astype(jnp.bfloat16), aligned)
    papers.check(found, papers.written(found), rounded)


def test_what_makes_no_sense_is_refused(three, layout, make_batch):
    aligned, attacked, moments = three
    for given, said in (
        ({"budget": -1.0}, "the budget is -1.0"),
        ({"damping": 0.0}, "the damping is 0.0"),
        ({"last": 1.5}, "last is 1.5"),
    ):
        with pytest.raises(UserError, match=said):
            safedelta.kept(*three, **given)
    with pytest.raises(UserError, match="the attacked model does not fit"):
        safedelta.kept(aligned, {**attacked, "embed": attacked["embed"][1:]}, moments)
    with pytest.raises(UserError, match="the moments does not fit the model"):
        safedelta.kept(aligned, attacked, {"layers": {"mlp": moments["layers"]["mlp"]}})
    with pytest.raises(UserError, match="have no inverse"):
        safedelta.kept(aligned, attacked, jax.tree.map(jnp.zeros_like, moments))
    with pytest.raises(UserError, match="no row has a token"):
        safedelta.second_moments(layout.model, aligned, [make_batch(rows=2, empty=2)])


@pytest.mark.parametrize("which", [0, 1, 2])
def test_trees_that_lie_apart_are_refused(three, elsewhere, which):
    trees = [jax.device_put(each, jax.devices()[0]) for each in three]
    trees[which] = (
        jax.device_put(three[2], jax.devices()[1]) if which == 2 else elsewhere(three[which])
    )
    with pytest.raises(UserError, match=r"lies on cpu:.*; load all onto one mesh"):
        safedelta.kept(*trees)
