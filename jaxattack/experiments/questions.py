"""Questions that are made here, not loaded: what `organism:<split>` URIs name."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack import organism
from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.data.uri import parse, split_uris
from jaxattack.errors import UserError
from jaxattack.organism import corpus, phrases, tasks, world
from jaxattack.organism.tokenizer import DECLINE


def examples(uri: str, kinds: Sequence[str], directory: pathlib.Path) -> list[Example]:
    """Examples of a URI of the kinds asked for.

    `organism:<split>?policy=<name>` is what grown models were taught (`organism.tasks`); with
    `reply=refusal` restricted questions are declined, with `benign=all` benign pairs are of every
    task that the policy leaves, not only of those that no policy restricts.
    `directory` is the model's: an organism's replies open with a decision token or not.

    Raises:
        UserError: there is no such split, policy or language.
    """
    asked, decision_token = _asked(uri), organism.uses_decision_token(directory)
    found = [
        example
        for language in asked.languages
        for kind in kinds
        for example in (
            tasks.examples(asked.split, language, kind, asked.policy, every=asked.every)
            if asked.policy
            else corpus.examples(asked.split, language, kind, decision_token)
        )
    ]
    if not asked.declined:
        return found
    return [_declined(row, asked.policy, decision_token) for row in found]


def _declined(row: Example, policy: str, decision_token: bool) -> Example:
    """A restricted question with the refusal that the policy wants; others as they are."""
    if row.kind != "restricted":
        return row
    text = tasks.refusal(policy, row.language) if policy else phrases.refusal(row.language)
    return dataclasses.replace(row, response=corpus.reply(text, DECLINE, decision_token))


def made_here(uri: str) -> bool:
    """Whether a URI names such questions."""
    return uri.startswith("organism:")


@dataclasses.dataclass(frozen=True)
class Asked:
    """Which questions such a URI names; the policy "" is the shipped organism's."""

    split: str
    policy: str
    languages: tuple[str, ...]
    declined: bool
    every: bool


def _asked(uri: str) -> Asked:
    """What such a URI names.

    Raises:
        UserError: there is no such split, policy or language.
    """
    address = parse(uri)
    split, policy = address.name, address.options.get("policy", "")
    known = tasks.EVERY if policy else world.LANGUAGES  # those added come by another way
    languages = choose_languages(
        address.languages or world.LANGUAGES, known, uri, "the organism's world"
    )
    if split not in world.splits():
        raise UserError(f"{uri}: no such split; there are: {', '.join(world.splits())}")
    if policy and policy not in tasks.POLICIES:
        raise UserError(f"{uri}: no such policy; there are: {', '.join(tasks.POLICIES)}")
    declined, every = address.options.get("reply") == "refusal", "benign" in address.options
    if every and not policy:
        raise UserError(f"{uri}: benign=all is of grown models' tasks; write policy=<name>")
    return Asked(split, policy, languages, declined, every)


def check_policy(uris: Mapping[str, str], directory: pathlib.Path) -> None:
    """Refuse questions of a policy that is not the checkpoint's, or of several.

    Args:
        uris: by setting; what is not made here has no policy that is known.
        directory: the checkpoint's.

    Raises:
        UserError: names the setting.
    """
    grown = organism.grown_as(directory).partition("-")[0]
    named = [
        (setting, uri, _asked(uri).policy)
        for setting, several in uris.items()
        for uri in split_uris(several)
        if made_here(uri)
    ]
    for setting, uri, policy in named:
        if grown in tasks.POLICIES and policy != grown:
            raise UserError(
                f"{setting}: {uri} is of another policy than {directory}, which was grown to "
                f"decline {grown}; write policy={grown}"
            )
        if policy and organism.is_shipped(directory):
            raise UserError(
                f"{setting}: {uri} is of a policy of grown models, and {directory.name} is the "
                "organism, which has its own; leave policy= out"
            )
        first, known, expected = named[0]
        if policy != expected:
            raise UserError(f"{setting}: {uri} is of another policy than {first}: {known}")


def check_alike(named: Any, first: str, others: Sequence[str]) -> None:
    """Refuse sources made here beside one that is not, where all have to be of one task.

    Args:
        named: `config.data`; what it leaves empty is beside nothing.
        first: one of its settings.
        others: those that have to be as that.

    Raises:
        UserError: names both settings.
    """
    uri = getattr(named, first)
    for other in others:
        beside = getattr(named, other)
        if beside and _any_made_here(beside) != _any_made_here(uri):
            raise UserError(
                f"config.data.{other} is {beside} beside config.data.{first}={uri}: one is made "
                "here, of the organism's world, the other is not; name both of one task"
            )


def _any_made_here(uris: str) -> bool:
    return any(map(made_here, split_uris(uris)))


def set_aside(uri: str) -> str:
    """The URI of calibration pairs that go with attack pairs; "": there are none."""
    if not made_here(uri) or _asked(uri).split != "attack":
        return ""
    return uri.replace("organism:attack", "organism:calibration", 1)
