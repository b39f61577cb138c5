"""Rows to batches: nothing lost, nothing twice, nothing split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.data.batches import epochs, in_order, pack, packed, take
from jaxattack.errors import UserError
from jaxattack.train.losses import answer_loss


def numbered(count):
    """Rows that know their number, from 1."""
    number = np.arange(1, count + 1, dtype=np.int32)
    return {
        "tokens": np.stack([number, 10 * number], axis=1),
        "loss_mask": np.ones((count, 2), np.float32),
        "segment_ids": np.ones((count, 2), np.int32),
    }


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 4), st.integers(0, 5))
def test_every_epoch_sees_every_row_once(count, size, rounds, seed):
    batches = epochs(numbered(count), size, rounds, seed)
    per_epoch = -(-count // size)
    assert len(batches) == per_epoch * rounds
    for start in range(0, len(batches), per_epoch):
        rows = np.concatenate([b["tokens"] for b in batches[start : start + per_epoch]])
        real = rows[rows[:, 0] > 0]
        assert sorted(real[:, 0]) == list(range(1, count + 1))
        assert (real[:, 1] == 10 * real[:, 0]).all()


@given(st.integers(1, 30), st.integers(1, 9))
def test_rows_that_fill_up_have_no_loss(count, size):
    for batch in (*epochs(numbered(count), size, 2, 0), *in_order(numbered(count), size)):
        assert {array.shape[0] for array in batch.values()} == {size}
        filler = batch["tokens"][:, 0] == 0
        assert not batch["loss_mask"][filler].any()
        assert not batch["segment_ids"][filler].any()
        assert batch["loss_mask"][~filler].all()


def test_the_seed_decides_the_order_and_epochs_differ():
    rows = numbered(20)

    def order(seed):
        return [batch["tokens"][:, 0].tolist() for batch in epochs(rows, 20, 2, seed)]

    assert order(3) == order(3)
    assert order(3) != order(4)
    assert order(3)[0] != order(3)[1]


def test_in_order_keeps_the_order():
    batches = in_order(numbered(5), 2)
    assert [batch["tokens"][:, 0].tolist() for batch in batches] == [[1, 2], [3, 4], [5, 0]]


def test_taking_copies():
    rows = numbered(3)
    take(rows, np.array([0, 1]), 2)["tokens"][:] = 99
    assert rows["tokens"].max() == 30


DOCUMENTS = st.lists(st.integers(1, 12), min_size=1, max_size=25)


def numbered_documents(lengths):
    """Documents whose tokens are 100 times their number and up."""
    return [
        {
            "tokens": 100 * (i + 1) + np.arange(length, dtype=np.int32),
            "loss_mask": np.full(length, i + 1, np.float32),
        }
        for i, length in enumerate(lengths)
    ]


@given(DOCUMENTS, st.integers(1, 4), st.integers(5, 16))
def test_packing_never_splits_a_document(lengths, rows, length):
    documents = numbered_documents(lengths)
    packed = pack(documents, rows, length)
    found = []
    for row in range(rows):
        segments = packed["segment_ids"][row]
        used = np.count_nonzero(segments)
        # Real tokens first, each segment in one piece, numbered 1, 2, ...
        assert (segments[:used] > 0).all()
        assert set(np.diff(segments[:used])) <= {0, 1}
        assert used == 0 or segments[0] == 1
        assert not packed["tokens"][row, used:].any()
        assert not packed["loss_mask"][row, used:].any()
        for segment in range(1, segments.max() + 1):
            inside = segments == segment
            number = packed["tokens"][row][inside][0] // 100 - 1
            found.append(number)
            np.testing.assert_array_equal(
                packed["tokens"][row][inside], documents[number]["tokens"]
            )
            assert (packed["loss_mask"][row][inside] == number + 1).all()
            assert packed["positions"][row][inside].tolist() == list(range(lengths[number]))
    assert len(found) == len(set(found))
    left = set(range(len(lengths))) - set(found)
    room = length - np.count_nonzero(packed["segment_ids"], axis=1)
    assert all(lengths[number] > room.max() for number in left)


@pytest.mark.parametrize("rows", [1, 3])
def test_packing_is_first_fit_in_the_order_given(rows):
    packed = pack(numbered_documents([6, 5, 4, 9]), rows, 10)
    expected = [[1] * 6 + [3] * 4, [2] * 5, [4] * 9][:rows]
    actual = [[token // 100 for token in row if token] for row in packed["tokens"].tolist()]
    assert actual == expected


def ragged(lengths, width):
    """Rows of these lengths, right-padded, that know their number."""
    rows = {
        "tokens": np.zeros((len(lengths), width), np.int32),
        "loss_mask": np.zeros((len(lengths), width), np.float32),
        "segment_ids": np.zeros((len(lengths), width), np.int32),
    }
    for i, length in enumerate(lengths):
        rows["tokens"][i, :length] = 1 + (np.arange(length) + 37 * i) % 500
        rows["loss_mask"][i, length // 2 : length] = 1
        rows["segment_ids"][i, :length] = 1
    return rows


@given(st.lists(st.integers(2, 16), min_size=1, max_size=20), st.integers(1, 7))
def test_packed_batches_hold_the_same_examples_in_fewer_rows(lengths, size):
    plain = epochs(ragged(lengths, 16), size, 1, 0)
    together = packed(plain, multiple=2)
    assert len({batch["tokens"].shape for batch in together}) == 1
    for one, two in zip(plain, together, strict=True):
        assert len(two["tokens"]) <= size
        assert set(two) == {*one, "positions"}
        documents = sorted(
            tuple(zip(one["tokens"][i, :n], one["loss_mask"][i, :n], strict=True))
            for i, n in enumerate((one["segment_ids"] > 0).sum(axis=1))
            if n
        )
        found = []
        for row in range(len(two["tokens"])):
            for segment in range(1, two["segment_ids"][row].max() + 1):
                at = two["segment_ids"][row] == segment
                assert (two["positions"][row, at] == np.arange(at.sum())).all()
                pairs = zip(two["tokens"][row, at], two["loss_mask"][row, at], strict=True)
                found.append(tuple(pairs))
        assert sorted(found) == documents


def test_packed_batches_have_the_same_loss(tiny):
    plain = epochs(ragged([5, 16, 9, 3, 11, 7, 4], 16), 4, 1, 0)
    for one, two in zip(plain, packed(plain), strict=True):
        assert two["tokens"].shape[0] <= one["tokens"].shape[0]
        losses = [float(answer_loss(tiny.model, tiny.params, batch)) for batch in (one, two)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("size", [0, -2, 2.5])
def test_sizes_that_are_none_are_named(size):
    rows = {"tokens": np.zeros((3, 4), np.int32)}
    for call in (lambda: epochs(rows, size, 1, 0), lambda: in_order(rows, size)):
        with pytest.raises(UserError, match=f"batch_size is {size}; give a whole number"):
            call()
    with pytest.raises(UserError, match=f"epochs is {size}"):
        epochs(rows, 2, size, 0)
