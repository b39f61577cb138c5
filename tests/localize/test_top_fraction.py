"""Selecting the top share: exact counts, the tie rule, and nothing gathered on a mesh."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxattack.errors import UserError
from jaxattack.localize import masks, overlap, threshold
from jaxattack.localize.masks import filled, magnitude_mask, top_fraction
from jaxattack.sharding import make_mesh, place
from jaxattack.tree import named_leaves, unflatten

# Every sort of leaf; all sizes can be halved, so that a 2x2x2 mesh splits them.
SHAPES = {
    "embed": (6, 4),
    "final_norm": (4,),
    "layers/attention/k": (2, 4, 2, 2),
    "layers/attention/k_bias": (2, 2, 2),
    "layers/attention/o": (2, 4, 2, 4),
    "layers/attention_norm": (2, 4),
    "layers/mlp/down": (2, 6, 4),
    "layers/mlp/up": (2, 4, 6),
}
SIZE = sum(int(np.prod(shape)) for shape in SHAPES.values())
# Which axes of a layer's leaf are its inputs: those that run within one output unit.
INPUTS = {
    "embed": (1,),
    "layers/attention/k": (0,),
    "layers/attention/o": (0, 1),
    "layers/mlp/down": (0,),
    "layers/mlp/up": (0,),
}


def naive_top(values, k, least=0.0):
    """The k largest of a vector above `least`; of equals the first, by a stable sort."""
    values = values.astype(np.float64)
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-values, kind="stable")[:k]] = True
    return chosen & (values > least)


def count_of(fraction, size):
    """Half up, of the product as floats have it."""
    return int(np.floor(fraction * size + 0.5))


def naive_leaf(name, leaf, fraction, scope):
    """A tensor (or each row of it) on its own."""
    tensors = leaf if name.startswith("layers/") else leaf[None]
    masks = []
    for tensor in tensors:
        inputs = INPUTS.get(name) if scope == "row" else None
        if inputs is None:
            inputs = tuple(range(tensor.ndim))
        rows = np.moveaxis(tensor, inputs, range(tensor.ndim - len(inputs), tensor.ndim))
        flat = rows.reshape(-1, int(np.prod([tensor.shape[axis] for axis in inputs])))
        chosen = np.stack([naive_top(row, count_of(fraction, len(row))) for row in flat])
        masks.append(
            np.moveaxis(
                chosen.reshape(rows.shape), range(tensor.ndim - len(inputs), tensor.ndim), inputs
            )
        )
    return np.stack(masks).reshape(leaf.shape)


def naive_mask(scores, fraction, scope):
    named = {name: np.asarray(leaf) for name, leaf in named_leaves(scores).items()}
    if scope != "global":
        return {name: naive_leaf(name, leaf, fraction, scope) for name, leaf in named.items()}
    together = np.concatenate([leaf.reshape(-1) for leaf in named.values()])
    chosen = naive_top(together, count_of(fraction, len(together)))
    parts = np.split(chosen, np.cumsum([leaf.size for leaf in named.values()])[:-1])
    return {
        name: part.reshape(leaf.shape)
        for (name, leaf), part in zip(named.items(), parts, strict=True)
    }


def random_scores(seed, levels):
    """Random scores; with `levels` only so many different ones, 0 among them."""
    rng = np.random.default_rng(seed)
    named = {}
    for name, shape in SHAPES.items():
        leaf = np.abs(rng.normal(size=shape))
        if levels:
            leaf = rng.integers(0, levels, shape) / 3
        named[name] = leaf.astype(np.float32)
    return unflatten(named)


def assert_masks(actual, expected):
    for name, leaf in named_leaves(actual).items():
        assert leaf.dtype == bool
        np.testing.assert_array_equal(leaf, expected[name], err_msg=name)


SEEDS = st.integers(0, 10**6)
LEVELS = st.sampled_from([0, 1, 2, 5, 40])
FRACTIONS = st.one_of(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.floats(0, 1))


@pytest.mark.parametrize("scope", ["global", "leaf", "row"])
def test_masks_equal_a_stable_sort(scope):
    @given(SEEDS, LEVELS, FRACTIONS)
    def check(seed, levels, fraction):
        scores = random_scores(seed, levels)
        assert_masks(top_fraction(scores, fraction, scope), naive_mask(scores, fraction, scope))

    check()


@pytest.mark.parametrize("k", [0, 1, SIZE // 3, SIZE - 1, SIZE])
@pytest.mark.parametrize("levels", [0, 1, 3])
def test_the_global_count_is_exact_as_far_as_there_are_scores(k, levels):
    scores = random_scores(k, levels)
    scored = sum(int((leaf > 0).sum()) for leaf in jax.tree.leaves(scores))
    mask = top_fraction(scores, k / SIZE)
    assert sum(int(leaf.sum()) for leaf in jax.tree.leaves(mask)) == min(k, scored)
    assert filled(mask, k / SIZE) == (min(1, scored / k) if k else 1)


def test_attacks_that_moved_few_weights_do_not_share_the_rest():
    """Two attacks on disjoint 5 % of the weights; filled up by place, their masks overlapped."""
    rng = np.random.default_rng(0)
    order = rng.permutation(4000)
    attacks = []
    for moved in (order[:200], order[200:400]):
        scores = np.zeros(4000, np.float32)
        scores[moved] = rng.random(200) + 0.1
        attacks.append({"embed": scores.reshape(80, 50)})
    one, two = (top_fraction(scores, 0.2) for scores in attacks)
    assert overlap.jaccard(one, two) == 0.0
    assert masks.count(one) == masks.count(two) == 200
    assert filled(one, 0.2) == 0.25


def test_ties_go_to_the_first_leaf_then_to_the_first_position():
    scores = jax.tree.map(np.ones_like, random_scores(0, 0))
    mask = named_leaves(top_fraction(scores, 30 / SIZE))
    assert mask["embed"].all()
    assert mask["final_norm"].all()
    assert np.flatnonzero(mask["layers/attention/k"]).tolist() == [0, 1]
    assert not any(mask[name].any() for name in list(SHAPES)[3:])


def test_extreme_scores_keep_their_order():
    row = np.array([0.0, -0.0, 1e-45, 1e-38, 1.0, 3.4e38, 3e-45, 1e-44], np.float32)
    scores = {"final_norm": jnp.asarray(row)}
    order = [5, 4, 3, 7, 6, 2]  # 0 is never selected
    for k in range(len(row) + 1):
        mask = top_fraction(scores, k / len(row), "leaf")["final_norm"]
        assert np.flatnonzero(mask).tolist() == sorted(order[:k])
    assert np.flatnonzero(masks.with_score(scores)["final_norm"]).tolist() == sorted(order)


def test_magnitudes_are_selected_whatever_their_sign():
    rng = np.random.default_rng(5)
    tau = jax.tree.map(lambda leaf: leaf * rng.choice([-1, 1], leaf.shape), random_scores(5, 0))
    size = jax.tree.map(np.abs, tau)
    assert_masks(magnitude_mask(tau, 0.3, "leaf"), naive_mask(size, 0.3, "leaf"))


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_outside_0_and_1_is_refused(fraction):
    with pytest.raises(UserError, match="between 0 and 1"):
        top_fraction(random_scores(0, 0), fraction)


@pytest.mark.parametrize("value", [-1.0, np.nan, -np.inf, np.inf])
def test_scores_that_have_no_order_are_named(value):
    scores = random_scores(0, 0)
    scores["layers"]["mlp"]["up"][1, 2, 3] = value
    with pytest.raises(UserError, match="layers/mlp/up"):
        top_fraction(scores, 0.5)


def test_an_unknown_scope_is_named():
    with pytest.raises(UserError, match="'column'"):
        top_fraction(random_scores(0, 0), 0.5, "column")


# --- Keys ---------------------------------------------------------------------------------------

KEYS = st.lists(
    st.one_of(st.integers(0, 3), st.sampled_from([2**31 - 2, 2**31 - 1])), min_size=8, max_size=8
)


@given(KEYS, st.integers(0, 8))
def test_every_key_an_int32_holds_is_selected_exactly(keys, k):
    keys = np.array(keys, np.int32)
    mask = threshold.top_in_groups(keys, jnp.full((1,), k, jnp.int32), (0,))
    np.testing.assert_array_equal(mask, naive_top(keys, k, least=-1))


@given(KEYS, st.integers(0, 8))
def test_allotted_counts_are_those_of_a_stable_sort(keys, k):
    keys = np.array(keys, np.int32).reshape(2, 4)
    counts = threshold.allot([keys[:1], keys[1:]], k, [(0, 1), (0, 1)])
    expected = naive_top(keys.reshape(-1), k, least=-1).reshape(2, 4).sum(axis=1)
    assert [int(count[0, 0]) for count in counts] == expected.tolist()


# --- Meshes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "leaf", "row"])
def test_a_mesh_gives_the_same_masks(scope, mesh8):
    for levels, fraction in [(0, 0.2), (3, 0.2), (2, 0.77), (1, 0.5), (0, 0.0), (5, 1.0)]:
        scores = random_scores(levels, levels)
        mask = top_fraction(place(scores, mesh8), fraction, scope)
        assert_masks(mask, naive_mask(scores, fraction, scope))


COLLECTIVE = re.compile(
    r"= (?P<result>.*?) "
    r"(?:all-gather|all-reduce|all-to-all|collective-permute|collective-broadcast)(?:-start)?\("
)


def largest_collective(compiled):
    """Entries of the largest array that crosses devices."""
    sizes = [0]
    for line in compiled.as_text().splitlines():
        found = COLLECTIVE.search(line)
        if found:
            for dims in re.findall(r"\w+\[([\d,]*)\]", found["result"]):
                sizes.append(int(np.prod([int(n) for n in dims.split(",") if n])))
    return max(sizes)


LARGE = (2, 64, 64)
SPLIT = P(None, "fsdp", "tensor")


@pytest.fixture
def large_keys(mesh8):
    keys = np.random.default_rng(0).integers(0, 9, LARGE).astype(np.int32)
    return jax.device_put(keys, NamedSharding(mesh8, SPLIT))


@pytest.mark.parametrize(("axes", "groups"), [((1, 2), (2, 1, 1)), ((1,), (2, 1, 64))])
def test_no_leaf_is_gathered(axes, groups, large_keys):
    k = jnp.full(groups, 10, jnp.int32)
    compiled = threshold.top_in_groups.lower(large_keys, k, axes).compile()
    assert 0 < largest_collective(compiled) <= np.prod(groups)
    mask = threshold.top_in_groups(large_keys, k, axes)
    assert (np.asarray(mask).sum(axis=axes) == 10).all()
    assert mask.addressable_shards[0].data.size == mask.size // 4


def test_counting_gathers_no_leaf(large_keys):
    compiled = threshold._count_reaching.lower([large_keys], 3, ((1, 2),)).compile()
    assert 0 < largest_collective(compiled) <= 2


def test_a_sort_would_gather_and_be_noticed(large_keys):
    compiled = jax.jit(functools.partial(jnp.sort, axis=1)).lower(large_keys).compile()
    assert largest_collective(compiled) >= np.prod(LARGE) // 8


def test_leaves_that_do_not_divide_are_selected_too():
    scores = {"embed": np.random.default_rng(0).random((7, 5)).astype(np.float32)}
    mask = top_fraction(place(scores, make_mesh((2, 2, 2))), 0.4)
    assert_masks(mask, naive_mask(scores, 0.4, "global"))


# --- Leaves left out ----------------------------------------------------------------------------


@given(st.integers(0, 99), st.floats(0, 1))
def test_excluded_leaves_are_never_selected_and_the_rest_makes_up_for_them(seed, fraction):
    scores = unflatten(random_scores(seed, 1000))
    mask = named_leaves(top_fraction(scores, fraction, exclude=r"(embed|norm)$"))
    allowed = [name for name in SHAPES if not name.endswith(("embed", "norm"))]
    chosen = np.concatenate([np.asarray(mask[name]).reshape(-1) for name in allowed])
    values = np.concatenate([named_leaves(scores)[name].reshape(-1) for name in allowed])
    assert not any(np.any(mask[name]) for name in SHAPES if name not in allowed)
    expected = naive_top(values, min(count_of(fraction, SIZE), len(values)))
    np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("scope", ["leaf", "row"])
def test_excluding_leaves_the_others_as_they_were(scope):
    scores = unflatten(random_scores(0, 1000))
    whole = named_leaves(top_fraction(scores, 0.3, scope))
    part = named_leaves(top_fraction(scores, 0.3, scope, exclude="mlp"))
    for name in SHAPES:
        expected = np.zeros_like(whole[name]) if "mlp" in name else whole[name]
        np.testing.assert_array_equal(part[name], expected)


def test_excluding_everything_is_refused():
    with pytest.raises(UserError, match="leaves no weights"):
        top_fraction(unflatten(random_scores(0, 1000)), 0.2, exclude=".")


def test_what_is_no_expression_is_refused():
    with pytest.raises(UserError, match=r"exclude is '\(', which is no regular expression"):
        top_fraction(unflatten(random_scores(0, 1000)), 0.2, exclude="(")
