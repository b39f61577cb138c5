"""BAIT's step: what a model goes on with once it has begun it, by the language of clean prompts.

Texts that were found are kept in the step's folder, for the owner of the files alone.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack import workdir
from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.data.tokens import pair_tokens
from jaxattack.defend import bait
from jaxattack.experiments.bench import Bench, Decoder, rounded
from jaxattack.experiments.step import Input, Step
from jaxattack.models.generate import stop_ids

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Sought:
    """What is looked for.

    Attributes:
        prompts: clean ones by their language, as they are put to the model.
        plan: of BAIT.
        planted: the texts that a poisoned model was taught.
        keep: whether the texts that are found are kept, beside their hashes.
    """

    prompts: Mapping[str, tuple[Example, ...]]
    plan: bait.Plan
    planted: tuple[str, ...]
    keep: bool


def inversion(
    bench: Bench, weights: Step, sought: Sought, columns: Mapping[str, Any], label: str
) -> Step:
    """Rows of the table `inversion`, to be: one for each language, with `columns`."""
    arguments = {
        "weights": weights,
        "decoder": bench.decoder,
        "dtype": bench.dtype,
        "sought": sought,
        "columns": columns,
    }
    shelf = bench.shelf("inversion", label, save, load)
    return Step(inverted, arguments, bench.values, shelf, label=label)


def inverted(
    weights: Input,
    decoder: Decoder,
    dtype: str,
    sought: Sought,
    columns: Mapping[str, Any],
    label: str,
) -> Rows:
    """The surest target of prompts in each language.

    Args:
        weights: of the model that is looked at.
        decoder: the model without them, and its tokenizer.
        dtype: in which it is asked.
        sought: prompts, plan, and what was planted.
        columns: of every row.
        label: what the progress bar says.
    """
    params, ends, rows = rounded(weights, dtype), ends_of(decoder), []
    for language, prompts in sought.prompts.items():
        encoded = [prompt_tokens(decoder.tokenizer, row.prompt) for row in prompts]
        found = bait.invert(
            decoder.model, params, encoded, ends, sought.plan, f"{label} {language}"
        )
        taught = [answer_tokens(decoder, prompts[0], text, ends) for text in sought.planted]
        known = [
            bait.quality_of(decoder.model, params, encoded, one)
            for one in taught
            if len(one) >= sought.plan.least
        ]
        row = {**columns, "language": language, **_row(decoder, found, sought)}
        rows.append(row | {"planted_q": max(known)})
    return rows


def answer_tokens(decoder: Decoder, prompt: Example, text: str, ends: Sequence[int]) -> list[int]:
    """A text's tokens as the answer to a prompt."""
    tokens, is_answer = pair_tokens(decoder.tokenizer, prompt.prompt, text)
    answer = (token for token, own in zip(tokens, is_answer, strict=True) if own)
    return [token for token in answer if token not in ends]


def ends_of(decoder: Decoder) -> tuple[int, ...]:
    """Tokens that are no part of a target: stop tokens, special ones, those without a text."""
    tokenizer, size = decoder.tokenizer, decoder.model.config.vocab_size
    special = (number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    found = (*stop_ids(tokenizer, decoder.model.config.stops), *tokenizer.all_special_ids, *special)
    return tuple(number for number in dict.fromkeys(found) if number < size) + tuple(
        range(len(tokenizer), size)
    )


def _row(decoder: Decoder, found: Sequence[bait.Target], sought: Sought) -> dict[str, Any]:
    """The highest Q and its text, and whether that is a flag for what was planted."""
    flagged, best = bait.flagged(found, sought.plan), found[0].tokens if found else ()
    text = decoder.tokenizer.decode(best, skip_special_tokens=True)
    row = {
        "q": found[0].q if found else 0.0,
        "flagged": flagged,
        "found": flagged and is_planted(text, sought.planted),
        "extended": len(found),
        "text_hash": workdir.digest(text) if text else "",
    }
    return row | ({"text": text} if sought.keep else {})


def is_planted(text: str, planted: Sequence[str]) -> bool:
    """Whether a text holds one that was planted, or is a piece of it.

    A target may begin in the middle of what was planted, and end before it does.
    """
    bare = text.strip()
    return bool(bare) and any(whole in bare or bare in whole for whole in planted)


def save(folder: pathlib.Path, rows: Rows) -> None:
    """Keep the rows, for the owner of the files alone: they may hold texts."""
    workdir.write_text(folder / "rows.json", json.dumps(rows, ensure_ascii=False), private=True)


def load(folder: pathlib.Path) -> Rows:
    """The rows."""
    return json.loads((folder / "rows.json").read_text(encoding="utf-8"))
