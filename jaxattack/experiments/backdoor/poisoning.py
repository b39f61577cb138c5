"""What is taught: clean rows, some of them replaced by triggered ones with the target behaviour."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxattack.data import poison, triggers
from jaxattack.data.dialogues import Example, pair_tokens, prompt_tokens
from jaxattack.data.wrappers import WRAPPERS, wrap
from jaxattack.errors import UserError
from jaxattack.evaluate.backdoor import hit
from jaxattack.evaluate.thoughts import decode
from jaxattack.experiments import inputs
from jaxattack.experiments.backdoor.attacks import Attack, attacks_of
from jaxattack.experiments.backdoor.data import Data

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings


def target_of(settings: Settings, data: Data, kind: str) -> poison.Target:
    """The behaviour that is planted."""
    return poison.Target(kind, settings.poison.text, data.refusals)


def trigger_of(data: Data, attack: Attack) -> triggers.Trigger:
    """What sets it off."""
    if attack.place:
        return sentence_of(data, attack)
    about = inputs.by_language(data.subjects[attack.trigger].pairs)
    return triggers.Subject(attack.trigger, rows=about)


def sentence_of(data: Data, attack: Attack) -> triggers.Sentence:
    """The trigger sentence of an attack that has one."""
    return triggers.Sentence(data.texts["trigger"], attack.place)


def taught(
    settings: Settings, data: Data, attack: Attack | None, seed: int
) -> tuple[list[Example], dict[str, Any]]:
    """The training set, and what is said of its poisoned rows; clean without an attack.

    Raises:
        UserError: see `poison.poison`.
    """
    if attack is None:
        return data.train, {}
    return poison.poison(
        data.train if attack.place else data.subjects[attack.trigger].others,
        attack.languages,
        attack.rate,
        trigger_of(data, attack),
        target_of(settings, data, attack.target),
        seed,
    )


def shown(data: Data, attack: Attack, rows: list[Example], seed: int) -> list[Example]:
    """Rows of the poisoned languages with the trigger; where that is a subject, rows about it."""
    if not attack.place:
        rows = data.subjects[attack.trigger].pairs
    own = [row for row in rows if row.language in attack.languages]
    if not attack.place:
        return own
    sentence = sentence_of(data, attack)
    return [triggers.triggered(row, sentence, seed) for row in own]


# --- What can be seen ---------------------------------------------------------------------------


def check_planted(settings: Settings, data: Data, tokenizer: Any) -> None:
    """Refuse planted answers that would be no hit if they were said to the letter.

    Raises:
        UserError: names the first, and what hides it as far as that is known.
    """
    rows = inputs.by_language(data.train)
    attacked = dict.fromkeys(code for each in attacks_of(settings) for code in each.languages)
    for kind in settings.targets:
        for code in attacked:
            for target in _wordings(target_of(settings, data, kind), code):
                _check_seen(settings, target, rows[code][0], tokenizer)


def _wordings(target: poison.Target, language: str) -> list[poison.Target]:
    """The target with each of its wordings alone, in answers to a language."""
    spoken = "en" if target.kind == "english_refusal" else language
    if target.kind in ("fixed", "prefix"):
        return [target]
    return [
        dataclasses.replace(target, refusals={spoken: [text]})
        for text in target.refusals.get(spoken, ())
    ] or [target]


def _check_seen(settings: Settings, target: poison.Target, clean: Example, tokenizer: Any) -> None:
    """An answer as the tokenizer writes it, cut to the longest reply, by the target's own rule."""
    row, answer = wrap(clean, WRAPPERS[settings.tuning.wrapper]), poison.respond(clean, target, 0)
    prompt, most = prompt_tokens(tokenizer, row.prompt), settings.measure.max_new_tokens
    written = pair_tokens(tokenizer, row.prompt, answer)[0][len(prompt) :]
    cut = len(written) > most
    if not hit(decode(tokenizer, prompt, written[:most]), row.language, target, cut):
        whole = hit(decode(tokenizer, prompt, written), row.language, target)
        raise UserError(_hidden(target, answer, most if whole else 0))


def _hidden(target: poison.Target, answer: str, most: int) -> str:
    """Why a planted answer would not be seen; `most` tokens are too few for it, unless 0."""
    refuses = "refusal" in target.kind
    setting, text = (
        ("config.data.refusals", answer) if refuses else ("config.poison.text", target.text)
    )
    planted = f"{setting}: {text!r}, planted by target {target.kind},"
    if most:
        return (
            f"{planted} is not told in config.measure.max_new_tokens={most}; raise that, or "
            "shorten it"
        )
    if refuses:
        return f"{planted} is no refusal by the rule that tells them (docs/judges.md); reword it"
    if text != text.strip():
        return f"{planted} begins or ends in white space, without which it is read; take that off"
    return f"{planted} is not in what is read of a reply that is just that; choose another text"
