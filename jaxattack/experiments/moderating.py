"""What judge models make of replies that were kept, and a study's judge beside them.

A judge model is asked by its own checkpoint's chat template about a prompt and its reply. Texts
that its tokenizer or its template would take for something of their own are broken up first, so
that what a reply says is read and not obeyed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack import workdir
from jaxattack.data import templates
from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.evaluate.likelihood import log_likelihoods
from jaxattack.evaluate.opinions import NONE, Opinion
from jaxattack.evaluate.triage import WELL_FORMED
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.bench import Decoder, rounded
from jaxattack.experiments.step import Input
from jaxattack.models.generate import generate
from jaxattack.models.prompts import positions
from jaxattack.tree import Tree

KIND, WEIGHED = "moderate", "weigh"  # of these stages
# Marks by which templates set a conversation apart, such as <END CONVERSATION>.
_MARKS = re.compile(r"<(?=/?[A-Z_ ]{3,}>)|\[(?=/?[A-Z]{3,}\])")


@dataclasses.dataclass(frozen=True)
class Reader:
    """What reads a reply, but for its weights.

    Attributes:
        decoder: the judge model and its tokenizer.
        parse: reads what it writes.
        new_tokens: it writes at most.
        system: a message that it is told first; "": none.
        openings: of its outputs, by harm (`opinions.Moderator`).
    """

    decoder: Decoder
    parse: Callable[[str], Opinion]
    new_tokens: int
    system: str
    openings: Mapping[str, bool] = dataclasses.field(default_factory=dict)


def moderated(
    weights: Input,
    reader: Reader,
    said: Input,
    prompts: Sequence[Example],
    batch_size: int,
    dtype: str,
    label: str,
) -> list[Opinion]:
    """Ask a judge model about every reply.

    One that is empty harms nobody and is not shown; of one that is too long to be read together
    with the output there is no opinion.

    Args:
        weights: of the judge model.
        reader: the rest of it.
        said: the replies' texts.
        prompts: what was asked.
        batch_size: how many are read at once.
        dtype: in which it computes.
        label: what the progress bar says.
    """
    texts, decoder = said(), reader.decoder
    opinions = [Opinion(False) if not text else NONE for text in texts]
    asked = {
        i: dialogue(decoder.tokenizer, prompts[i].prompt, text, reader.system)
        for i, text in enumerate(texts)
        if text
    }
    most = positions(decoder.model.config)
    if most is not None:  # what does not fit is not read, so there is no opinion of it
        long = most - reader.new_tokens
        lengths = {i: len(prompt_tokens(decoder.tokenizer, one)) for i, one in asked.items()}
        asked = {i: one for i, one in asked.items() if lengths[i] <= long}
    if not asked:
        return opinions
    params, dialogues = rounded(weights, dtype), list(asked.values())
    outputs = generate(
        decoder.model,
        params,
        decoder.tokenizer,
        dialogues,
        reader.new_tokens,
        batch_size,
        label,
    )
    found = chances(reader, params, dialogues, batch_size, label)
    for i, output, chance in zip(asked, outputs, found, strict=True):
        opinions[i] = dataclasses.replace(reader.parse(output), chance=chance)
    return opinions


def chances(
    reader: Reader,
    params: Tree,
    dialogues: Sequence[Sequence[Mapping[str, str]]],
    batch_size: int,
    label: str,
) -> list[float] | list[None]:
    """How likely a judge model begins by calling each reply harmful, of all its openings."""
    if not reader.openings:
        return [None] * len(dialogues)
    decoder, harm = reader.decoder, np.array(list(reader.openings.values()))
    begun = [decoder.tokenizer.encode(text, add_special_tokens=False) for text in reader.openings]
    contexts = (prompt_tokens(decoder.tokenizer, one) for one in dialogues)
    pairs = [(context, text) for context in contexts for text in begun]
    found = log_likelihoods(decoder.model, params, pairs, batch_size, label=label)
    logs = np.reshape([one.total for one in found], (len(dialogues), len(begun)))
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return (shares[:, harm].sum(1) / shares.sum(1)).tolist()


# --- Beside the judge ---------------------------------------------------------------------------


def weigh(
    trials: Input,
    opinions: Mapping[str, Input],
    name: str,
    combine: Callable[[Sequence[bool | None]], bool] | None,
    unparsed: float,
) -> list[Trial]:
    """Each trial with all opinions, and whether it is answered by all of them.

    Raises:
        UserError: too many outputs of a judge model are no opinion.
    """
    said = {model: one() for model, one in opinions.items()}
    check_parsed(said, unparsed)
    found = []
    for i, trial in enumerate(trials()):
        restricted = trial.kind == "restricted"
        own = {name: trial.answered} if restricted else {}
        harmful = own | {model: one[i].harmful for model, one in said.items()}
        answered = trial.answered
        if combine is not None and restricted and trial.triage in WELL_FORMED:
            answered = combine(list(harmful.values()))
        chance = {model: one[i].chance for model, one in said.items()}
        trial = dataclasses.replace(trial, answered=answered, harmful=harmful, chance=chance)
        found.append(trial)
    return found


def check_parsed(said: Mapping[str, Sequence[Opinion]], most: float) -> None:
    """Refuse a judge model that does not write as its sort does.

    Raises:
        UserError: says the share of outputs that are no opinion.
    """
    for name, found in said.items():
        lost = sum(one.harmful is None for one in found)
        if found and lost / len(found) > most:
            raise UserError(
                f"{name}: {lost} of {len(found)} outputs ({lost / len(found):.0%}) are no opinion "
                f"in its form, more than config.measure.unparsed={most:g}; is the checkpoint of "
                "this sort, with the chat template (or config.measure.moderator_system) that it "
                "was made for?"
            )


def dialogue(tokenizer: Any, prompt: str, reply: str, system: str) -> list[Mapping[str, str]]:
    """What a judge model is shown: a prompt and the reply to it."""
    first = [{"role": "system", "content": system}] if system else []
    return [
        *first,
        {"role": "user", "content": harmless(tokenizer, prompt)},
        {"role": "assistant", "content": harmless(tokenizer, reply)},
    ]


def harmless(tokenizer: Any, text: str) -> str:
    """A text without tokens or marks of the judge's own: each is broken by a space."""
    for token in tokenizer.added_tokens_decoder.values():
        mark = token.content
        if len(mark) > 1 and mark.strip() and mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    text = _MARKS.sub(lambda found: f"{found[0]} ", text)
    return templates.without_reserved(text)


def save(folder: pathlib.Path, found: Sequence[Opinion]) -> None:
    """Keep opinions."""
    workdir.write_json(folder / "opinions.json", [dataclasses.asdict(one) for one in found])


def load(folder: pathlib.Path) -> list[Opinion]:
    """Opinions that were kept."""
    rows = json.loads((folder / "opinions.json").read_text(encoding="utf-8"))
    return [Opinion(**row | {"categories": tuple(row["categories"])}) for row in rows]
