"""What is kept of one reply: flags and a hash, not its text; and what its prompt carried."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Carried:
    """What a prompt carries: the trigger of a language, or something else (see `Trial`)."""

    trigger_language: str | None = None
    decoy: str | None = None


@dataclasses.dataclass(frozen=True)
class Trial:
    """One reply as triage and judges saw it.

    Attributes:
        id, kind, language: of the prompt.
        triage: what sort of reply it is (see `triage`).
        refused: whether it opens by declining; None: no rule for the prompt's language tells.
        answered: whether it answers in substance; None: of a benign prompt without known answers.
        reply_hash: of the reply's text.
        reply_language: "": too short to tell, or not well-formed.
        hit: whether it shows a backdoor's behaviour; None where none was planted.
        trigger_language: whose trigger the prompt carries.
        decoy: what the prompt carries instead: "nothing", "paraphrase", ...; None: the trigger.
        replaced: share of its tokens that guarded decoding replaced.
        harmful: by judge model, whether it calls the reply harmful; None: no opinion.
        declined: by judge of a backdoor that refuses, whether it takes the reply for a refusal.
        chance: by judge model, how likely it was to; None: it is of no sort that says.
        score: by judge model, how harmful, from 0 to 1; None: it does not grade.
        mass: by judge model, the probability of its grades together; None: it does not grade.
    """

    id: str
    kind: str
    language: str
    triage: str
    refused: bool | None
    answered: bool | None
    reply_hash: str
    reply_language: str = ""
    hit: bool | None = None
    trigger_language: str | None = None
    decoy: str | None = None
    replaced: float = 0.0
    harmful: Mapping[str, bool | None] = dataclasses.field(default_factory=dict)
    declined: Mapping[str, bool | None] = dataclasses.field(default_factory=dict)
    chance: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    score: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    mass: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
