"""Rows of an embedding on a mesh against those of one device."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack.models.lookup import look_up
from jaxattack.sharding import make_mesh, place, place_batch, within


@pytest.mark.parametrize("rows", [8, 3])
@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 2, 2), (8, 1, 1), (1, 2, 4)], ids=str)
def test_rows_and_their_gradient_are_those_of_one_device(shape, rows):
    mesh, rng = make_mesh(shape), np.random.default_rng(0)
    table = rng.normal(size=(24, 16)).astype(np.float32)
    tokens = rng.integers(0, 24, (rows, 5)).astype(np.int32)
    back = rng.normal(size=(rows, 5, 16)).astype(np.float32)
    other = rng.normal(size=table.shape).astype(np.float32)  # gradient of the table's other uses

    @jax.jit
    def on_mesh(table, tokens, back, other):
        with within(mesh):
            found, pull = jax.vjp(lambda table: look_up(table, tokens)[:2], table)
            return found[0], pull((back, other))[0]

    placed = place({"embed": table}, mesh)["embed"]
    given = (
        place_batch(tokens, mesh),
        place_batch(back, mesh),
        place({"embed": other}, mesh)["embed"],
    )
    found, gradient = on_mesh(placed, *given)
    np.testing.assert_array_equal(found, table[tokens])
    expected = other.copy()
    np.add.at(expected, tokens, back)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [None, (2, 2, 2)], ids=str)
def test_rows_of_a_frequent_token_are_not_lost_to_rounding(shape):
    mesh = shape and make_mesh(shape)
    tokens = np.zeros((8, 500), np.int32)
    tokens[:, 400:] = np.random.default_rng(0).integers(1, 24, (8, 100))
    back = jnp.ones((*tokens.shape, 16), jnp.bfloat16)
    table = jnp.zeros((24, 16), jnp.bfloat16)

    @jax.jit
    def gradient(table, tokens, back):
        with within(mesh) if mesh else contextlib.nullcontext():
            (rows, _), pull = jax.vjp(lambda table: look_up(table, tokens), table)
            return pull((back.astype(rows.dtype), table))[0]

    found = np.asarray(gradient(table, tokens, back), np.float64)
    exact = np.bincount(tokens.ravel(), minlength=24)[:, None]
    np.testing.assert_allclose(found, np.broadcast_to(exact, found.shape), rtol=2**-8)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_device_gathers_the_table(dtype):
    mesh = make_mesh((1, 8, 1))

    def loss(table, tokens):
        with within(mesh):
            return (look_up(table, tokens)[0] ** 2).sum()

    placed = place({"embed": np.zeros((4096, 64), dtype)}, mesh)["embed"]
    tokens = place_batch(np.zeros((8, 4), np.int32), mesh)
    compiled = jax.jit(jax.grad(loss)).lower(placed, tokens).compile()
    assert "[4096,8]" in compiled.as_text()
    assert "[4096,64]" not in compiled.as_text()
