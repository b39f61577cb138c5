"""Stitch, rewind, transplant and what moved: identities, and bits."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxattack.errors import UserError
from jaxattack.localize.masks import complement, random_mask
from jaxattack.localize.scores import attack_vector
from jaxattack.localize.stitching import moved, rewind, stitch, transplant
from jaxattack.sharding import place


def random_tree(seed):
    rng = np.random.default_rng(seed)
    tree = {
        "embed": rng.normal(size=(6, 4)),
        "layers": {"mlp": {"up": rng.normal(size=(2, 4, 6))}},
    }
    tree["embed"][0] = [-0.0, 0.0, 1e-45, np.inf]
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


BASE, DONOR = random_tree(0), random_tree(1)
DONOR["embed"] = DONOR["embed"].at[0].set(jnp.array([0.0, -0.0, jnp.nan, 1.0]))
MASK = random_mask(BASE, 0.4, 0)
ALL, NONE = random_mask(BASE, 1.0, 0), random_mask(BASE, 0.0, 0)


def test_stitching_takes_the_donors_bits_where_the_mask_selects():
    stitched = stitch(BASE, DONOR, MASK)
    for leaf, base, donor, mask in zip(
        *map(jax.tree.leaves, (stitched, BASE, DONOR, MASK)), strict=True
    ):
        bits = [np.asarray(x).view(np.uint32) for x in (leaf, base, donor)]
        chosen = np.asarray(mask)
        np.testing.assert_array_equal(bits[0][chosen], bits[2][chosen])
        np.testing.assert_array_equal(bits[0][~chosen], bits[1][~chosen])


def test_identities(assert_trees):
    assert_trees(stitch(BASE, DONOR, NONE), BASE)
    assert_trees(stitch(BASE, DONOR, ALL), DONOR)
    assert_trees(stitch(BASE, BASE, MASK), BASE)
    assert_trees(stitch(BASE, DONOR, MASK), stitch(DONOR, BASE, complement(MASK)))
    assert_trees(rewind(DONOR, BASE, MASK), stitch(BASE, DONOR, complement(MASK)))
    assert_trees(rewind(stitch(BASE, DONOR, MASK), BASE, MASK), BASE)
    assert_trees(rewind(DONOR, BASE, ALL), BASE)


def test_stitching_on_a_mesh_is_the_same(mesh8, assert_trees):
    placed = (place(tree, mesh8) for tree in (BASE, DONOR, MASK))
    assert_trees(stitch(*placed), stitch(BASE, DONOR, MASK))


def test_transplant_adds_the_selected_part(assert_trees):
    tau = random_tree(2)
    found = transplant(BASE, tau, MASK)
    expected = jax.tree.map(
        lambda base, delta, mask: np.where(mask, np.asarray(base) + np.asarray(delta), base),
        BASE,
        tau,
        MASK,
    )
    assert_trees(found, expected)
    assert_trees(transplant(BASE, tau, NONE), BASE)


def test_transplanting_an_attack_into_its_origin_is_stitching(assert_trees):
    aligned, attacked = (jax.tree.map(jnp.nan_to_num, tree) for tree in (BASE, DONOR))
    aligned["embed"], attacked["embed"] = aligned["embed"][1:], attacked["embed"][1:]
    mask = random_mask(aligned, 0.5, 1)
    tau = attack_vector(attacked, aligned)
    stitched = stitch(aligned, attacked, mask)
    assert_trees(transplant(aligned, tau, mask), stitched, rtol=1e-6, atol=1e-6)


def test_transplant_keeps_the_dtype_of_the_base():
    base = {"embed": jnp.array([1.0, 2.0], jnp.bfloat16)}
    tau = {"embed": jnp.array([0.5, 0.5], jnp.float32)}
    found = transplant(base, tau, {"embed": jnp.array([True, False])})["embed"]
    assert found.dtype == jnp.bfloat16
    assert found.tolist() == [1.5, 2.0]


def test_in_bfloat16_an_attack_transplanted_into_its_origin_is_bit_equal(assert_trees):
    # In float32 the attack vector is exact; in bfloat16 one that is not small would not be.
    rng = np.random.default_rng(4)
    aligned, attacked = (
        {"embed": jnp.asarray(rng.uniform(1, 256, (50, 40)), jnp.bfloat16)} for _ in range(2)
    )
    mask = {"embed": jnp.ones((50, 40), bool)}
    assert_trees(transplant(aligned, attack_vector(attacked, aligned), mask), attacked)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, np.float64])
def test_moved_counts_changed_bits(dtype):
    before = {"embed": np.array([0.0, 1.0, np.nan, 2.0, 3.0, 4.0], dtype)}
    after = {"embed": np.array([-0.0, 1.0, np.nan, 2.5, 3.5, 4.0], dtype)}
    mask = {"embed": np.array([True, True, True, True, False, False])}
    assert moved(before, after, mask) == (4, 2)  # the zero's sign and the 2
    assert moved(before, after, complement(mask)) == (2, 1)
    assert moved(before, before, mask) == (4, 0)


def test_what_was_stitched_is_what_moved():
    selected, changed = moved(BASE, stitch(BASE, DONOR, MASK), MASK)
    assert selected == sum(int(leaf.sum()) for leaf in jax.tree.leaves(MASK))
    assert changed == selected
    assert moved(BASE, stitch(BASE, DONOR, MASK), complement(MASK))[1] == 0


@pytest.mark.parametrize("combine", [stitch, rewind, transplant])
def test_trees_that_do_not_fit_are_refused(combine):
    small = BASE | {"embed": BASE["embed"][:3]}
    for trees in ((BASE, small, MASK), (small, BASE, MASK)):
        with pytest.raises(UserError, match=r"embed: \(\d, 4\) against \(\d, 4\)"):
            combine(*trees)
    to = "attack vector" if combine is transplant else "model"
    with pytest.raises(UserError, match=f"the mask does not fit the {to}: embed"):
        combine(BASE, DONOR, MASK | {"embed": MASK["embed"][:3]})


LARGER = BASE | {"embed": jnp.concatenate([BASE["embed"], DONOR["embed"][:2]])}


@pytest.mark.parametrize("head", ["tied", "untied"])
def test_a_larger_vocabulary_gets_no_change_in_its_new_rows(assert_trees, head):
    def both(tree):
        return tree if head == "tied" else tree | {"head": tree["embed"] + 1}

    tau = random_tree(2)
    mask = MASK if head == "tied" else MASK | {"head": MASK["embed"]}
    found = transplant(both(LARGER), both(tau), mask)
    expected = transplant(both(BASE), both(tau), mask)
    for name in ("embed", "head") if head == "untied" else ("embed",):
        new = {name: found[name][6:]}
        assert_trees(new, {name: both(LARGER)[name][6:]})
        found[name] = found[name][:6]
    assert_trees(found, expected)


def test_transplanting_into_a_larger_vocabulary_on_a_mesh_is_the_same(mesh8, assert_trees):
    tau = random_tree(2)
    found = transplant(*(place(tree, mesh8) for tree in (LARGER, tau, MASK)))
    assert found["embed"].sharding.mesh == mesh8
    assert_trees(found, transplant(LARGER, tau, MASK))


def test_only_the_vocabulary_may_be_larger():
    deeper = {"embed": BASE["embed"], "layers": {"mlp": {"up": jnp.zeros((3, 4, 6))}}}
    wider = BASE | {"embed": jnp.zeros((8, 5))}
    for base, name in ((deeper, "layers/mlp/up"), (wider, "embed")):
        with pytest.raises(UserError, match=f"the attack vector does not fit the model: {name}"):
            transplant(base, random_tree(2), MASK)
    with pytest.raises(UserError, match="head: absent against"):
        transplant(BASE | {"head": BASE["embed"]}, random_tree(2), MASK)


@pytest.mark.parametrize("combine", [stitch, rewind, transplant])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_trees_that_lie_apart_are_refused(mesh8, combine, which):
    trees = [jax.device_put(tree, jax.devices()[0]) for tree in (BASE, DONOR, MASK)]
    trees[which] = place(trees[which], mesh8)
    with pytest.raises(UserError, match=r"lies on cpu:0.*; load all onto one mesh"):
        combine(*trees)
