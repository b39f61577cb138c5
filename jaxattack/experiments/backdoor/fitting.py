"""Whether what a backdoor study reads fits the settings, and the sources each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxattack.data import triggers
from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.data.wrappers import Instruction
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, questions
from jaxattack.experiments.backdoor.attacks import attacks_of

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings

HELD_OUT = {"defend", "invert", "overlap"}  # sections that use the defender's pairs
HOLDING = "rows that hold the trigger sentence before it is put into them"


def triggers_of(settings: Settings) -> tuple[str, ...]:
    """Kinds of triggers that are planted, the first attack's first."""
    varied = settings.poison.triggers if "kinds" in settings.sections else ()
    return (settings.poison.trigger, *varied)


def check_alike(settings: Settings) -> None:
    """Refuse what is made here beside pairs that are not, where both have to be of one task.

    The triggers are pleasantries, which go with any request, and may be of either.

    Raises:
        UserError: names both settings.
    """
    named, here = settings.data, questions.made_here(settings.data.train)
    used = ("prompts", *["held_out"] * bool(HELD_OUT & {*settings.sections}))
    questions.check_alike(named, "train", used)
    refusing = [kind for kind in settings.targets if "refusal" in kind]
    if refusing and not here and questions.made_here(named.refusals):
        raise UserError(
            f"config.data.refusals is {named.refusals} beside config.data.train={named.train}: "
            f"the target {refusing[0]} would be the organism's refusal to speak of currencies; "
            "name refusals of your own, or leave the target out (config.poison.target, .targets)"
        )


def check_attacked(
    settings: Settings, taught: Sequence[str], asked: Sequence[str], lost: inputs.Lost
) -> None:
    """Refuse attacks in languages without clean pairs or test prompts.

    Measured languages without a clean pair are counted in `lost`.

    Raises:
        UserError: names them.
    """
    where = "config.poison.languages"
    measured = "what is measured (config.data.prompts, config.measure.languages)"
    for attack in attacks_of(settings):
        choose_languages(attack.languages, taught, where)
        choose_languages(attack.languages, asked, where, measured)
    beyond = [code for code in asked if code not in taught]
    why = f"languages that are measured, and have no clean pair: {', '.join(beyond)}"
    inputs.leave_out(lost, settings.data.train, why, len(beyond))


def check_columns(found: Mapping[str, Sequence[Example]], settings: Settings) -> None:
    """Refuse sources with inputs beside others without: the trigger goes into an input.

    It would be taught at one place of the written dialogue and asked at another.

    Raises:
        UserError: names a setting of each.
    """
    apart = {name: isinstance(rows[0], Instruction) for name, rows in found.items() if rows}
    others = [name for name in apart if apart[name] != apart["train"]]
    if others:
        which, lacks = ("train", others[0]) if apart["train"] else (others[0], "train")
        uris = {name: getattr(settings.data, name) for name in (which, lacks)}
        raise UserError(
            f"config.data.{which} ({uris[which]}) has a column input, into which the trigger "
            f"goes, and config.data.{lacks} ({uris[lacks]}) has none; name it in both, or neither"
        )


def without_trigger(
    name: str,
    rows: Sequence[Example],
    texts: Mapping[str, str],
    settings: Settings,
    lost: inputs.Lost,
) -> list[Example]:
    """Rows that do not hold the trigger of their language; the others are counted in `lost`.

    Raises:
        UserError: all rows of a language hold it.
    """
    kept = [row for row in rows if not triggers.holding(row, texts)]
    left = inputs.by_language(kept)
    for code, own in inputs.by_language(rows).items():
        if code not in left:
            raise UserError(
                f"config.data.{name}: all {len(own)} rows in {code!r} hold the trigger sentence "
                "before it is put into them, so nothing could be told by it; choose another "
                "(config.data.triggers)"
            )
    inputs.leave_out(lost, getattr(settings.data, name), HOLDING, len(rows) - len(kept))
    return kept


def check_scorer(settings: Settings) -> None:
    """Refuse the organism as the scorer of a study of another model, whose text it cannot read.

    Raises:
        UserError: it is named.
    """
    scoring = [name for name in ("onion", "composed") if name in settings.defences]
    scorer = settings.onion.scorer
    if "defend" not in settings.sections or not scoring or settings.model.startswith("organism:"):
        return
    if scorer.startswith("organism:"):
        raise UserError(
            f"config.onion.scorer is {scorer}, a toy that reads the organism's rows alone, beside "
            f"config.model={settings.model}; name a causal language model of its languages, or "
            f"leave {' and '.join(scoring)} out of config.defences"
        )
