"""Names, counts and shape checks on parameter trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.errors import UserError
from jaxattack.sharding import make_mesh, place
from jaxattack.tree import (
    check_alike,
    check_same_devices,
    check_same_shapes,
    map_named,
    named_leaves,
    pattern,
    size,
    unflatten,
)

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


def test_trees_that_lie_on_other_devices_are_named(mesh8):
    here = {"embed": np.zeros((8, 8), np.float32), "final_norm": np.zeros(8, np.float32)}
    one, other = (make_mesh((1, 1, 1), [device]) for device in jax.devices()[:2])
    turned = make_mesh((2, 2, 2), jax.devices()[::-1])
    meshes = (mesh8, make_mesh((1, 8, 1)), one, other, turned)
    trees = [place(here, mesh) for mesh in meshes]
    check_alike({"a": here, "b": jax.tree.map(jnp.asarray, here), "c": trees[0]})  # not placed
    check_alike({"a": trees[0], "b": trees[1]})  # another shape of the same devices
    for i, j in ((0, 2), (2, 3), (0, 4), (4, 2)):
        for names in ({"a": trees[i], "b": trees[j]}, {"a": trees[i], "-": here, "b": trees[j]}):
            with pytest.raises(UserError, match=r"^embed of a lies on .*, and embed of b on ") as e:
                check_alike(names)
            assert "\n" not in str(e.value)
    with pytest.raises(UserError, match=r"lies on cpu:0, and embed of b on cpu:1; load all onto"):
        check_same_devices({"a": trees[2], "b": trees[3]})
    with pytest.raises(UserError, match=r"on cpu:0, cpu:1, cpu:2 and 5 more, and embed of b on cp"):
        check_same_devices({"a": trees[0], "b": trees[4]})
    mixed = {"embed": trees[2]["embed"], "final_norm": trees[3]["final_norm"]}
    with pytest.raises(UserError, match=r"embed of a lies on cpu:0, and final_norm of a on cpu:1"):
        check_same_devices({"a": mixed})
    with pytest.raises(UserError, match="a does not fit c: embed: absent"):
        check_alike({"a": {}, "b": here, "c": here})


def test_within_a_compiled_function_places_are_not_asked_for(mesh8):
    placed = place({"embed": np.zeros((8, 8), np.float32)}, mesh8)
    jax.jit(lambda a, b: check_alike({"a": a, "b": b}))(placed, placed)


@pytest.mark.parametrize("text", ["(", 5, None, "a" * 10 + "{99999999999}"])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(UserError, match=r"exclude is .*, which is no regular expression: "):
        pattern(text, "exclude")
    assert pattern("a.c", "exclude").search("xabc")
