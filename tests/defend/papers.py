"""Matrices as papers write them, `y = W x`, in float64: what the naive versions work on."""

import math

import numpy as np

from jaxattack.tree import named_leaves

# How many axes of a layer's matrix are inputs, said a second time.
INPUT_AXES = {"q": 1, "k": 1, "v": 1, "qkv": 1, "o": 2, "gate": 1, "up": 1, "down": 1}


def written(params):
    """`{(name, layer): W [out, in]}` of all matrices of the blocks."""
    found = {}
    for name, leaf in named_leaves(params).items():
        axes = INPUT_AXES.get(name.rpartition("/")[2])
        for layer, matrix in enumerate(np.asarray(leaf, np.float64) if axes else ()):
            inputs = math.prod(matrix.shape[:axes])
            found[name, layer] = matrix.reshape(inputs, -1).T
    return found


def check(found, expected, others, rtol=1e-5, atol=1e-6):
    """The tree's matrices are the expected ones, and what is no matrix is that of `others`."""
    matrices = written(found)
    assert matrices.keys() == expected.keys()
    for key, matrix in expected.items():
        np.testing.assert_allclose(matrices[key], matrix, rtol, atol, err_msg=str(key))
    ours, theirs = named_leaves(found), named_leaves(others)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        assert leaf.dtype == theirs[name].dtype, name
        assert leaf.shape == theirs[name].shape, name
        if name.rpartition("/")[2] not in INPUT_AXES:
            np.testing.assert_array_equal(np.asarray(leaf), np.asarray(theirs[name]), name)


def same(found, expected):
    """Two trees bit by bit."""
    ours, theirs = named_leaves(found), named_leaves(expected)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        assert leaf.dtype == theirs[name].dtype, name
        assert np.asarray(leaf).tobytes() == np.asarray(theirs[name]).tobytes(), name
