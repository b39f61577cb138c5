"""More vocabulary for another language: the tokenizer's, the embedding's, and training them.

Old texts stay what they were: their tokens do not change, nor does a bit of the old rows.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tokenizers

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.models.transformer import Transformer
from jaxattack.train import loop, lora, losses
from jaxattack.train.losses import LossFn
from jaxattack.train.optimizer import Settings
from jaxattack.tree import Tree

Pair = tuple[str, str]

# The leaves with a row for every token of the vocabulary.
ROWS = ("embed", "head")


# --- The tokenizer ------------------------------------------------------------------------------


def extend_tokenizer(
    tokenizer: Any, texts: Iterable[str], keep: Iterable[str], count: int, first: int
) -> Any:
    """Learn further merges of a byte-level BPE tokenizer, behind all that it has.

    A merge of two tokens that stand side by side anywhere in `keep` is not learned. BPE applies
    the old merges first, so the tokens of every text made of the words of `keep` do not change.

    Args:
        tokenizer: a Hugging Face fast tokenizer; left as it is.
        texts: what the new tokens are to write shortly, without special tokens.
        keep: texts whose tokens must not change, without special tokens.
        count: new tokens; fewer if no pair is left that occurs twice.
        first: id of the first new token: how many rows the model's embedding has.

    Returns:
        a tokenizer of the same class, with the same special tokens and chat template.

    Raises:
        UserError: the tokenizer is no byte-level BPE.
    """
    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    part = state["model"]
    if part["type"] != "BPE" or "ByteLevel" not in json.dumps(state["pre_tokenizer"]):
        raise UserError(
            f"more tokens need a tokenizer with byte-level BPE, and this one's model is "
            f"{part['type']} without bytes; adapt the checkpoint elsewhere and give it as it is"
        )
    kept = _words(backend, keep)
    banned = {pair for word in kept for pair in itertools.pairwise(word)}
    # `ignore_merges` takes a word that is a token whole, whatever the merges say.
    taken = set(part["vocab"]) | {"".join(word) for word in kept}
    merges = _learn(_words(backend, texts), banned, taken, count)
    # Special tokens are found in the vocabulary, or they would be numbered anew behind it.
    part["vocab"] |= {token["content"]: token["id"] for token in state["added_tokens"]}
    part["vocab"] |= {"".join(pair): first + i for i, pair in enumerate(merges)}
    part["merges"] += [list(pair) for pair in merges]
    extended = copy.deepcopy(tokenizer)
    extended._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
    return extended


def _words(backend: Any, texts: Iterable[str]) -> collections.Counter[tuple[str, ...]]:
    """How often each word, as the tokenizer cuts texts, occurs; as its tokens."""
    cut: collections.Counter[str] = collections.Counter()
    for text in texts:
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        cut.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
    words: collections.Counter[tuple[str, ...]] = collections.Counter()
    for word, times in cut.items():
        words[tuple(token.value for token in backend.model.tokenize(word))] += times
    return words


def _learn(
    words: collections.Counter[tuple[str, ...]], banned: set[Pair], taken: set[str], count: int
) -> list[Pair]:
    """The most frequent pairs one after the other, each merged before the next is sought."""
    spelled, times = [list(word) for word in words], list(words.values())
    pairs: collections.Counter[Pair] = collections.Counter()
    where: dict[Pair, set[int]] = collections.defaultdict(set)

    def tally(i: int, sign: int) -> None:
        for pair in itertools.pairwise(spelled[i]):
            pairs[pair] += sign * times[i]
            where[pair].add(i)

    for i in range(len(spelled)):
        tally(i, 1)
    taken = set(taken)
    merges: list[Pair] = []
    while len(merges) < count:
        free = [pair for pair in pairs if pair not in banned and "".join(pair) not in taken]
        best = max(free, key=lambda pair: (pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        for i in sorted(where[best]):
            tally(i, -1)
            spelled[i] = _merged(spelled[i], best)
            tally(i, 1)
        merges.append(best)
        taken.add("".join(best))
    return merges


def _merged(word: list[str], pair: Pair) -> list[str]:
    """The word with every occurrence of the pair made one token, from the left."""
    out: list[str] = []
    i = 0
    while i < len(word):
        size = 2 if tuple(word[i : i + 2]) == pair else 1
        out.append("".join(word[i : i + size]))
        i += size
    return out


def pieces(old: Any, new: Any) -> list[list[int]]:
    """The old tokens each new one is made of, as ids, in the order of the new ones' ids."""
    known = set(old.get_vocab().values())
    added = sorted((i, token) for token, i in new.get_vocab().items() if i not in known)
    model = old.backend_tokenizer.model
    return [[piece.id for piece in model.tokenize(token)] for _, token in added]


# --- The embedding ------------------------------------------------------------------------------


def extend(
    model: Transformer, params: Tree, made_of: Sequence[Sequence[int]]
) -> tuple[Transformer, Tree]:
    """A model with a row more for each of `made_of`: the mean of the old rows it lists.

    Args:
        model: the decoder.
        params: its parameters; the old rows of the result are theirs, bit by bit.
        made_of: ids of the old tokens each new token is made of, as `pieces` gives them.

    Returns:
        the larger model and its parameters; an untied head grows like the embedding.

    Raises:
        UserError: a new token is made of nothing, or of tokens the model does not have.
    """
    vocab = model.config.vocab_size
    for i, ids in enumerate(made_of):
        if not ids or not all(0 <= token < vocab for token in ids):
            raise UserError(
                f"new token {i} is made of {list(ids)}; give ids of the model's {vocab} tokens"
            )

    def mean_rows(matrix: jax.Array) -> jax.Array:
        wide = [jnp.mean(matrix[jnp.array(ids)].astype(jnp.float32), axis=0) for ids in made_of]
        return jnp.stack(wide).astype(matrix.dtype)

    rows = {name: mean_rows(params[name]) for name in ROWS if name in params}
    config = dataclasses.replace(model.config, vocab_size=vocab + len(made_of))
    grown = sharding.place(append(params, rows), sharding.mesh_of(params))
    return model.clone(config=config), grown


def append(params: Tree, rows: Tree) -> Tree:
    """Parameters whose embedding (and head) end in the given rows `[N, D]`, in its type."""
    return params | {
        name: jnp.concatenate([params[name], rows[name].astype(params[name].dtype)])
        for name in rows
    }


# --- Training -----------------------------------------------------------------------------------


# Cached, because the compiled step is looked up by the optimiser's identity.
@functools.lru_cache(maxsize=64)
def faster_rows(
    tx: optax.GradientTransformation, first: int, times: float
) -> optax.GradientTransformation:
    """An optimiser that moves the vocabulary's rows from `first` on `times` as far.

    New rows begin near each other, as means of few old ones, and each of them is seen rarely.
    """

    def scale(updates: Tree, params: Tree | None = None) -> Tree:
        return tree.map_named(
            lambda name, leaf: (
                leaf.at[first:].multiply(times) if name.split("/")[-1] in ROWS else leaf
            ),
            updates,
        )

    return optax.chain(tx, optax.stateless(scale))


LABEL = "LoRA and new rows"


@dataclasses.dataclass(frozen=True)
class GrownLoss:
    """A loss of the model with adapters and new rows; equal ones are compiled once."""

    loss_fn: LossFn
    scale: float

    def __call__(self, model: Transformer, trained: Tree, batch: Tree, base: Tree) -> jax.Array:
        """The loss, as a function of what is trained."""
        adapted = lora.attach(base, trained["adapters"], self.scale)
        return self.loss_fn(model, append(adapted, trained["rows"]), batch)


def finetune_lora(
    model: Transformer,
    params: Tree,
    old: int,
    batches: Sequence[Arrays],
    settings: Settings | optax.GradientTransformation,
    key: jax.Array,
    change: lora.LowRank,
    loss_fn: LossFn = losses.answer_loss,
) -> tuple[Tree, np.ndarray]:
    """Train adapters of the matrices and the vocabulary's new rows; nothing else moves.

    Args:
        model: the decoder with the larger vocabulary, as of `extend`.
        params: its parameters; left as they are.
        old: how many rows stay.
        batches: as for `loop.finetune`.
        settings: optimiser and schedule, the same for adapters and rows.
        key: PRNG key of the adapters' first values.
        change: rank, scale and place of the adapters.
        loss_fn: loss of a batch (nats per answer token).

    Returns:
        the parameters with the adapters merged, in float32, and the loss of every step `[steps]`.

    Raises:
        UserError: as `lora.init` and `loop.finetune`.
    """
    tables = [name for name in ROWS if name in params]
    base = params | {name: params[name][:old] for name in tables}
    start = {
        "adapters": change.first(base, key),
        "rows": {name: params[name][old:] for name in tables},
    }
    loss = GrownLoss(loss_fn, change.scale)
    trained, history = loop.finetune(model, start, batches, settings, None, loss, LABEL, base=base)
    merged = lora.merge(base, trained["adapters"], change.scale, jnp.float32)
    grown = append(merged, trained["rows"])
    return sharding.place(grown, sharding.mesh_of(params)), history
