"""From rows of tokens to the batches of a training run."""

from __future__ import annotations

import numpy as np

from jaxattack.data.dialogues import Arrays
from jaxattack.errors import check_whole_number


def epochs(rows: Arrays, batch_size: int, epochs: int, seed: int) -> list[Arrays]:
    """All batches of a run: every epoch sees every row once, in an order of its own.

    The last batch of an epoch is filled up with rows whose loss mask is zero, so that all
    batches have one shape and no row is dropped.

    Raises:
        UserError: `batch_size` or `epochs` is no whole number of at least 1.

    Example:
        >>> batches = ja.epochs(ja.encode_pairs(tokenizer, pairs), batch_size=2, epochs=2, seed=0)
        >>> len(batches), batches[0]["tokens"].shape
        (4, (2, 32))
    """
    check_whole_number("batch_size", batch_size)
    check_whole_number("epochs", epochs)
    count = len(rows["tokens"])
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count, batch_size):
            batches.append(take(rows, order[start : start + batch_size], batch_size))
    return batches


def in_order(rows: Arrays, batch_size: int) -> list[Arrays]:
    """The rows once, in order, the last batch filled up as in `epochs`.

    Raises:
        UserError: `batch_size` is no whole number of at least 1.

    Example:
        >>> batches = ja.in_order(ja.encode_pairs(tokenizer, pairs), batch_size=2)
        >>> [int(batch["loss_mask"].any(1).sum()) for batch in batches]
        [2, 1]
    """
    check_whole_number("batch_size", batch_size)
    indices = np.arange(len(rows["tokens"]))
    return [
        take(rows, indices[start : start + batch_size], batch_size)
        for start in range(0, len(indices), batch_size)
    ]


def take(rows: Arrays, indices: np.ndarray, batch_size: int) -> Arrays:
    """The rows at `indices`, then empty ones up to `batch_size`."""
    batch = {}
    for name, array in rows.items():
        batch[name] = np.zeros((batch_size, *array.shape[1:]), array.dtype)
        batch[name][: len(indices)] = array[indices]
    return batch


def pack(documents: list[dict[str, np.ndarray]], rows: int, length: int) -> Arrays:
    """Lay whole documents into rows, each a segment of its own, positions starting at 0.

    First fit in the order given; what does not fit is left out (the caller gives a surplus).

    Args:
        documents: dicts of equally long 1-D arrays; all have the same keys.
        rows: number of rows.
        length: tokens in a row.

    Returns:
        the documents' arrays as `[rows, length]`, and `segment_ids`, `positions`.
    """
    packed = {name: np.zeros((rows, length), array.dtype) for name, array in documents[0].items()}
    packed["segment_ids"] = np.zeros((rows, length), np.int32)
    packed["positions"] = np.zeros((rows, length), np.int32)
    used = np.zeros(rows, np.int64)
    segments = np.zeros(rows, np.int64)
    for document in documents:
        size = len(document["tokens"])
        fits = np.flatnonzero(used + size <= length)
        if not len(fits):
            continue
        row = fits[0]
        span = slice(used[row], used[row] + size)
        for name, array in document.items():
            packed[name][row, span] = array
        segments[row] += 1
        packed["segment_ids"][row, span] = segments[row]
        packed["positions"][row, span] = np.arange(size)
        used[row] += size
    return packed


def packed(batches: list[Arrays], multiple: int = 8) -> list[Arrays]:
    """The same batches with several examples in a row where they fit; all of one shape.

    The number of rows is a multiple of `multiple`, or as large as it was.

    Every example keeps its tokens, loss mask and positions and sees nothing of its neighbours, so
    a batch's loss stays what it was.
    """
    found = []
    for batch in batches:
        lengths = (batch["segment_ids"] > 0).sum(axis=1)
        documents = [
            {name: batch[name][i, : lengths[i]] for name in ("tokens", "loss_mask")}
            for i in np.argsort(-lengths, kind="stable")
            if lengths[i]
        ]
        found.append(pack(documents, *batch["tokens"].shape))
    used = max(int((batch["segment_ids"] > 0).any(axis=1).sum()) for batch in found)
    rows = min(-(-used // multiple) * multiple, len(found[0]["tokens"]))
    return [{name: array[:rows] for name, array in batch.items()} for batch in found]
