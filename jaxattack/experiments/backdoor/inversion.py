"""In which language's prompts a backdoor shows: BAIT on the first attack, and on clean training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from jaxattack.data.poison import Target
from jaxattack.defend import bait
from jaxattack.errors import UserError
from jaxattack.experiments import inputs
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.backdoor import inverting
from jaxattack.experiments.backdoor.setup import Setup, wrapped
from jaxattack.experiments.backdoor.training import held_out_rows, poisoned
from jaxattack.experiments.cell import Cell
from jaxattack.models.prompts import check_prompts

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings


def invert(agenda: Agenda, setup: Setup) -> None:
    """The surest target of the poisoned and of the clean model, from prompts of each language."""
    for seed in setup.settings.seeds:
        sought = sought_of(setup, seed)
        for code in setup.languages:
            if code not in sought.prompts:
                agenda.skip("data.held_out", f"no prompts for BAIT in {code}")
        for cell, weights in (
            (setup.first.cell(seed), poisoned(setup, setup.first, seed)),
            (Cell("clean", seed), poisoned(setup, None, seed)),
        ):
            columns, label = cell.columns(), f"{cell.variant}-s{seed}"
            found = inverting.inversion(setup.bench, weights, sought, columns, label)
            agenda.find("inversion", found)


def sought_of(setup: Setup, seed: int) -> inverting.Sought:
    """Clean held-out prompts of the languages measured, and what was planted.

    Raises:
        UserError: lengths that do not go together, prompts that are too long for them, or nothing
            was planted that is long enough to be found.
    """
    options, decoder = setup.settings.bait, setup.bench.decoder
    count = options.prompts * len(inputs.by_language(setup.data.held_out))
    rows = wrapped(setup, held_out_rows(setup, "all", count, seed))
    rows = tuple(row for row in rows if row.language in setup.languages)
    check_prompts(
        decoder.model.config,
        decoder.tokenizer,
        [row.prompt for row in rows],
        options.tokens,
        [row.id for row in rows],
        "config.bait.tokens",
    )
    texts = planted(setup.target(setup.first), setup.first.languages)
    ends = inverting.ends_of(decoder)
    longest = max(len(inverting.answer_tokens(decoder, rows[0], text, ends)) for text in texts)
    if longest < options.least:
        raise UserError(
            f"what is planted has {longest} tokens, and config.bait.least={options.least} is the "
            "shortest that is looked for; lower it, at least 2, or leave invert out of "
            "config.sections"
        )
    return inverting.Sought(
        {language: tuple(own) for language, own in inputs.by_language(rows).items()},
        plan_of(setup.settings),
        texts,
        setup.settings.replies == "keep",
    )


def plan_of(settings: Settings) -> bait.Plan:
    """BAIT's settings."""
    names = (field.name for field in dataclasses.fields(bait.Plan))
    return bait.Plan(**{name: getattr(settings.bait, name) for name in names})


def planted(target: Target, languages: tuple[str, ...]) -> tuple[str, ...]:
    """The texts with which a target's answers begin, in the languages that are poisoned."""
    match target.kind:
        case "refusal":
            return tuple(text for code in languages for text in target.refusals[code])
        case "english_refusal":
            return tuple(target.refusals["en"])
        case _:
            return (target.text,)
