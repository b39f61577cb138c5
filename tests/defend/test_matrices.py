"""Matrices seen as `[L, I, O]`: nothing is lost, the sides are right, a mesh changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattack.defend import lox, matrices, safedelta, safelora, swapping
from jaxattack.sharding import place
from jaxattack.tree import named_leaves, unflatten

small = st.integers(1, 4)


@settings(max_examples=10)
@given(layers=small, hidden=small, heads=small, width=small, mlp=small, half=st.booleans())
def test_views_put_back_are_the_parameters(layers, hidden, heads, width, mlp, half):
    shapes = {
        "embed": (5, hidden),
        "layers/attention/qkv": (layers, hidden, heads, 3, width),
        "layers/attention/qkv_bias": (layers, heads, 3, width),
        "layers/attention/q": (layers, hidden, heads, width),
        "layers/attention/o": (layers, heads, width, hidden),
        "layers/attention_norm": (layers, hidden),
        "layers/mlp/down": (layers, mlp, hidden),
    }
    rng = np.random.default_rng(layers)
    kind = jnp.bfloat16 if half else jnp.float32
    params = unflatten(
        {name: jnp.asarray(rng.normal(size=shape), kind) for name, shape in shapes.items()}
    )
    seen = matrices.views(params)
    assert {name: matrix.shape for name, matrix in seen.items()} == {
        "layers/attention/qkv": (layers, hidden, heads * 3 * width),
        "layers/attention/q": (layers, hidden, heads * width),
        "layers/attention/o": (layers, heads * width, hidden),
        "layers/mlp/down": (layers, mlp, hidden),
    }
    papers.same(matrices.put_back(params, seen), params)
    papers.same(matrices.mapped(lambda name, one, other: other, params, params), params)


def test_all_matrices_of_the_blocks_and_no_others(layout, tuned):
    seen, written = matrices.views(layout.params), papers.written(layout.params)
    assert {(name, layer) for name in seen for layer in range(2)} == set(written)
    for (name, layer), matrix in written.items():  # ours are theirs turned round
        np.testing.assert_array_equal(np.asarray(seen[name][layer], np.float64), matrix.T)
    after = tuned(layout.params, 1)
    changes, sizes = matrices.changes(layout.params, after), matrices.sizes(after)
    moved = papers.written(after)
    for (name, layer), matrix in written.items():
        new = moved[name, layer]
        np.testing.assert_allclose(changes[name][layer], np.linalg.norm(new - matrix), 1e-5)
        np.testing.assert_allclose(sizes[name][layer], np.linalg.norm(new), 1e-5)


def test_what_is_put_back_gets_type_and_place(mesh8, tiny):
    params = place(jax.tree.map(lambda w: w.astype(jnp.bfloat16), tiny.params), mesh8)
    doubled = matrices.mapped(lambda name, m: 2 * m.astype(jnp.float32), params)
    for name, leaf in named_leaves(doubled).items():
        before = named_leaves(params)[name]
        assert leaf.dtype == before.dtype
        assert leaf.sharding == before.sharding
        factor = 2 if matrices.inputs_of(name) else 1
        np.testing.assert_array_equal(
            np.asarray(leaf, np.float32), factor * np.asarray(before, np.float32)
        )


@pytest.fixture(scope="module")
def three(tiny, tuned):
    aligned = tuned(tiny.params, 1)
    return tiny.params, aligned, tuned(aligned, 2)


DEFENCES = {
    "lox": lambda base, aligned, attacked, _: lox.extrapolated(base, aligned, 3),
    "safelora": lambda base, aligned, attacked, _: safelora.projected(base, aligned, attacked, 5),
    "safedelta": lambda base, aligned, attacked, seen: safedelta.kept(
        aligned, attacked, safedelta.second_moments(*seen), 20_000.0
    ),
    "swapping": lambda base, aligned, attacked, _: swapping.swapped(aligned, attacked, base),
}


@pytest.mark.parametrize("defence", DEFENCES)
def test_a_mesh_changes_nothing(defence, three, tiny, mesh8, make_batch, assert_trees):
    def defended(trees):
        return DEFENCES[defence](*trees, (tiny.model, trees[1], [make_batch(rows=4)]))

    spread = [place(tree, mesh8) for tree in three]
    found = defended(spread)
    assert_trees(found, defended(three), rtol=1e-4, atol=1e-5)
