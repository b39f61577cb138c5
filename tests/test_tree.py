"""Names, counts and shape checks on parameter trees."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.errors import UserError
from jaxattack.tree import check_same_shapes, map_named, named_leaves, size, unflatten

TREE = {
    "layers": {"mlp": {"up": np.zeros((2, 3, 4)), "down": np.zeros((2, 4, 3))}},
    "embed": np.zeros((5, 3)),
    "count": np.zeros(()),
}
KEYS = st.text("abc_", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


def test_names_are_paths_in_the_trees_order():
    named = named_leaves(TREE)
    assert list(named) == ["count", "embed", "layers/mlp/down", "layers/mlp/up"]
    assert all(a is b for a, b in zip(named.values(), jax.tree.leaves(TREE), strict=True))
    assert named["layers/mlp/up"] is TREE["layers"]["mlp"]["up"]


@given(TREES)
def test_unflatten_undoes_names(tree):
    assert unflatten(named_leaves(tree)) == tree


def test_map_named_gives_names_and_all_trees_leaves():
    found = map_named(lambda name, a, b: (name, a.shape == b.shape), TREE, TREE)
    assert found["layers"]["mlp"]["up"] == ("layers/mlp/up", True)
    assert found["count"] == ("count", True)


def test_size_counts_entries():
    assert size(TREE) == 24 + 24 + 15 + 1


def test_equal_shapes_pass_whatever_the_dtype():
    check_same_shapes("a", TREE, "b", jax.tree.map(lambda leaf: leaf.astype(bool), TREE))


def test_the_first_differences_are_named():
    other = unflatten({f"leaf{i}": np.zeros(i) for i in range(3)}) | {"embed": np.zeros((5, 4))}
    with pytest.raises(UserError) as error:
        check_same_shapes("the mask", TREE, "the model", other)
    text = str(error.value)
    assert text.startswith("the mask does not fit the model: count: () against absent; ")
    assert "embed: (5, 3) against (5, 4)" in text
    assert text.endswith("; and 3 more")
    assert text.count(" against ") == 4


def test_a_missing_leaf_is_named():
    other = {key: value for key, value in TREE.items() if key != "embed"}
    with pytest.raises(UserError, match=r"embed: \(5, 3\) against absent$"):
        check_same_shapes("a", TREE, "b", other)
    with pytest.raises(UserError, match=r"embed: absent against \(5, 3\)$"):
        check_same_shapes("a", other, "b", TREE)
