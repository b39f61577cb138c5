"""Trees that have a name before they are computed."""

import dataclasses

import numpy as np

from jaxattack import tree
from jaxattack.experiments import inputs
from jaxattack.experiments.lazy import Lazy, Memo
from jaxattack.experiments.settings import Settings
from jaxattack.sharding import mesh_of


def leaf(name, calls, size=4):
    def compute():
        calls.append(name)
        return {"x": np.full(size, len(name), np.float32)}

    return Lazy({"model": name}, compute)


def test_deriving_computes_nothing():
    calls = []
    memo = Memo()
    derived = memo.derive("plus", lambda a, b, by: {"x": a["x"] + by * b["x"]},
                          leaf("a", calls), leaf("bb", calls), by=10)  # fmt: skip
    assert calls == []
    assert derived.lineage == {"is": "plus", "of": [{"model": "a"}, {"model": "bb"}], "by": 10}
    assert memo.load(derived)["x"].tolist() == [21] * 4
    assert calls == ["a", "bb"]


def test_a_tree_is_loaded_once_while_there_is_room():
    calls = []
    memo = Memo(limit=40)  # two trees of 16 bytes
    first, second, third = (leaf(name, calls) for name in ("a", "b", "c"))
    for lazy in (first, first, second, first, third, first, second):
        memo.load(lazy)
    # The third pushes out the one that was not asked for longest.
    assert calls == ["a", "b", "c", "b"]


def test_a_tree_larger_than_the_room_is_not_kept():
    calls = []
    memo = Memo(limit=40)
    large, small = leaf("large", calls, size=100), leaf("a", calls)
    memo.load(small)
    assert memo.load(large)["x"].size == 100
    memo.load(large)
    memo.load(small)
    assert calls == ["a", "large", "large"]


def test_equal_lineages_are_one_tree():
    calls = []
    memo = Memo()
    memo.load(leaf("a", calls))
    memo.load(leaf("a", calls))
    assert calls == ["a"]


def test_one_large_tree_that_is_often_needed_is_kept_until_a_training_takes_it():
    calls = []
    memo = Memo(limit=40)
    large, other = leaf("large", calls, size=100), leaf("other", calls, size=100)
    often = dataclasses.replace(large, often=True)
    for lazy in (often, other, often, other):
        memo.load(lazy)
    assert calls == ["large", "other", "other"]
    assert memo.take(often)["x"].size == 100
    assert calls == ["large", "other", "other"]  # it was there, and now is no longer
    memo.load(often)
    assert calls == ["large", "other", "other", "large"]


def test_weights_that_nobody_holds_are_loaded_again(tiny):
    settings = Settings(attention="xla")
    load = inputs.weights_again("the first", tiny.directory, settings, mesh_of(tiny.params))
    assert load() == "the first"
    for name, leaf_ in tree.named_leaves(load()).items():
        np.testing.assert_array_equal(leaf_, tree.named_leaves(tiny.params)[name])
