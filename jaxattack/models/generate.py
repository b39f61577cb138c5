"""Generation for many prompts: read by width, decoded together, fewer rows as replies end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.data.tokens import Prompt
from jaxattack.data.tokens import stop_ids as stop_ids
from jaxattack.errors import UserError, check_whole_number
from jaxattack.models import decoding
from jaxattack.models.config import check_tokens
from jaxattack.models.prompts import encode_prompts
from jaxattack.models.sampling import BROKEN, Sampling, seed_words
from jaxattack.models.transformer import Transformer
from jaxattack.progress import track

GREEDY = Sampling()
# Where decoding runs the layers one by one: on a CPU a scan's copies of the cache cost more than
# anything else. Elsewhere the layers' parameters would be copied instead.
ONE_BY_ONE = ("cpu",)
# When only a quarter of the rows are not done, these go on alone. Every number of rows is compiled
# once, so not at every chance and not with few.
SHRINK, SMALLEST = 4, 16
NOBODY = -1


def generate(
    model: Transformer,
    params: tree.Tree,
    tokenizer: Any,
    dialogues: Sequence[Prompt],
    max_new_tokens: int = 64,
    batch_size: int = 256,
    label: str = "generating",
    sampling: Sampling = GREEDY,
    seed: int = 0,
    extra_stops: Sequence[int] = (),
) -> list[str]:
    """Replies under the tokenizer's chat template, in the input's order.

    Args:
        model: the decoder.
        params: its parameters.
        tokenizer: Hugging Face tokenizer with a chat template.
        dialogues: texts of user turns, or lists of messages with role and content.
        max_new_tokens: a reply is cut after so many tokens.
        batch_size: prompts decoded together, at most.
        label: what the progress bar says.
        sampling: how tokens are chosen; greedily by default.
        seed: of the sampling; with the prompt's index it fixes what is drawn for a prompt.
        extra_stops: ids that end a reply beside those of `stop_ids` and of the model's config.

    Returns:
        the replies without special tokens.

    Raises:
        UserError: as `encode_prompts` and `generate_tokens`.

    Example:
        >>> replies = ja.generate(model, params, tokenizer, ["Hello?", "Bye."], max_new_tokens=2)
        >>> len(replies)
        2
    """
    encoded = encode_prompts(model.config, tokenizer, dialogues, max_new_tokens)
    stops = stop_ids(tokenizer, (*model.config.stops, *extra_stops))
    replies = generate_tokens(
        model, params, encoded, stops, max_new_tokens, batch_size, label, sampling, seed
    )
    return tokenizer.batch_decode(replies, skip_special_tokens=True)


def generate_tokens(
    model: Transformer,
    params: tree.Tree,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[int],
    max_new_tokens: int,
    batch_size: int = 256,
    label: str = "generating",
    sampling: Sampling = GREEDY,
    seed: int = 0,
) -> list[list[int]]:
    """Continuations of token sequences, each up to its stop token (left out).

    Args:
        model: the decoder.
        params: its parameters.
        prompts: token ids, N sequences.
        stops: ids that end a reply.
        max_new_tokens: a reply is cut after so many tokens.
        batch_size: prompts decoded together, at most.
        label: what the progress bar says.
        sampling: how tokens are chosen; greedily by default.
        seed: of the sampling; with the prompt's index it fixes what is drawn for a prompt.

    Returns:
        token ids, N sequences in the prompts' order.

    Raises:
        UserError: an empty prompt, token ids beyond the vocabulary, a size that is none, or the
            model's logits are not finite.
    """
    check_whole_number("max_new_tokens", max_new_tokens)
    check_whole_number("batch_size", batch_size)
    if not all(len(prompt) for prompt in prompts):
        raise UserError("a prompt has no token")
    check_tokens(model.config, prompts, "prompt")
    words, one_by_one = seed_words(seed), jax.default_backend() in ONE_BY_ONE
    mesh = sharding.mesh_of(params)
    decoder = decoding.Decoder(model, mesh, sampling, tuple(stops), one_by_one)
    results: list[list[int]] = [[] for _ in prompts]
    for parts in track(groups([len(p) for p in prompts], batch_size), label):
        rows, owners = _read(decoder, params, prompts, parts, words, max_new_tokens)
        step: jax.Array | int = 1
        while len(owners):
            fewest = len(owners) // SHRINK if len(owners) >= SHRINK * SMALLEST else 0
            if sharding.filled_rows(fewest, mesh) == len(owners):
                fewest = 0
            step, rows = decoding.decode(decoder, params, rows, step, fewest, words)
            tokens, done = sharding.to_host(rows.tokens), sharding.to_host(rows.done)
            done = done | (int(step) >= max_new_tokens)
            for row in np.flatnonzero(done & (owners != NOBODY)):
                results[owners[row]] = _until_stop(tokens[row], stops)
                check_finite(results[owners[row]], label)
            going = np.flatnonzero(~done)
            left = sharding.filled_rows(fewest, mesh) if len(going) else 0
            which = _filled(going, left, int(done.argmax()))
            owners = np.where(done, NOBODY, owners)[which]
            if len(owners):
                rows = decoding.take_rows(mesh, rows, which)
    return results


def _read(
    decoder: decoding.Decoder,
    params: tree.Tree,
    prompts: Sequence[Sequence[int]],
    parts: list[tuple[int, list[int]]],
    words: np.ndarray,
    new: int,
) -> tuple[decoding.Rows, np.ndarray]:
    """The rows of a group of prompts (see `groups`), read; and whose each row is."""
    read = []
    for width, indices in parts:
        count = padded_count(len(indices), decoder.mesh)
        some = _left_padded(prompts, indices, width, count)
        placed = sharding.place_batch(some, decoder.mesh)
        read.append(decoding.prefill(decoder, params, *placed, words))
    widest, members = parts[-1][0], [index for _, indices in parts for index in indices]
    owners = _filled(members, padded_count(len(members), decoder.mesh), NOBODY)
    starts = _filled([widest - len(prompts[i]) for i in members], len(owners), widest - 1)
    placed = sharding.place_batch((starts, owners), decoder.mesh)
    counts = tuple(len(indices) for _, indices in parts)
    return decoding.gather(decoder, new, counts, read, *placed), owners


def _left_padded(
    prompts: Sequence[Sequence[int]], indices: Sequence[int], width: int, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens `[count, width]`, first slots and numbers of prompts; filler rows see one token."""
    tokens = np.zeros((count, width), np.int32)
    starts = _filled([width - len(prompts[i]) for i in indices], count, width - 1)
    for row, index in enumerate(indices):
        tokens[row, starts[row] :] = prompts[index]
    return tokens, starts, _filled(indices, count, 0)


def _filled(values: Sequence[int] | np.ndarray, count: int, filler: int) -> np.ndarray:
    """Whole numbers, filled up to `count`."""
    whole = np.full(count, filler, np.int32)
    whole[: len(values)] = values
    return whole


def padded_count(count: int, mesh: Mesh) -> int:
    """Rows in eighths of a power of two: few shapes to compile, few rows for nothing.

    And as many on each device of the mesh that has rows of its own.
    """
    step = max(8, (1 << (count - 1).bit_length()) // 8)
    return sharding.filled_rows(-(-count // step) * step, mesh)


def groups(lengths: Sequence[int], batch_size: int) -> list[list[tuple[int, list[int]]]]:
    """Which prompts are decoded together, and of each group which are read together.

    Groups are of like length and size, at most `batch_size`; within one the parts are
    (padded width, indices). Widths are quarters of a power of two, 16 at least, so that few shapes
    are compiled.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    size = -(-len(order) // max(1, -(-len(order) // batch_size)))
    found: list[list[tuple[int, list[int]]]] = []
    for number, index in enumerate(order):
        step = max(16, (1 << (lengths[index] - 1).bit_length()) // 4)
        width = -(-lengths[index] // step) * step
        if number % size == 0:
            found.append([])
        if not found[-1] or found[-1][-1][0] != width:
            found[-1].append((width, []))
        found[-1][-1][1].append(index)
    return found


def buckets(lengths: Sequence[int], batch_size: int) -> list[tuple[int, list[int]]]:
    """Group prompts of like length: (padded width, indices), at most `batch_size` indices each.

    Widths are powers of two from 32 on, so few shapes are compiled.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[tuple[int, list[int]]] = []
    for index in order:
        width = max(32, 1 << (lengths[index] - 1).bit_length())
        if not groups or groups[-1][0] != width or len(groups[-1][1]) == batch_size:
            groups.append((width, []))
        groups[-1][1].append(index)
    return groups


def check_finite(reply: Sequence[int], label: str) -> None:
    """Refuse a reply whose last token could not be chosen.

    Raises:
        UserError: the logits were not finite.
    """
    if BROKEN in reply:
        raise UserError(
            f"{label}: the model's logits are not finite (NaN or infinity), so it says nothing; "
            "its weights are damaged, its training went astray, or its dtype is too small"
        )


def _until_stop(tokens: np.ndarray, stops: Sequence[int]) -> list[int]:
    ended = np.flatnonzero(np.isin(tokens, stops))
    return tokens[: ended[0] if len(ended) else len(tokens)].tolist()
