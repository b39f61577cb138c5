"""Judge models behind an OpenAI-compatible endpoint, which judge by a rubric.

What they answer is kept in the work directory as it comes, named by what was asked: a step that is
computed anew, or was stopped, asks only what is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack import distributed
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.evaluate import posting
from jaxattack.evaluate.address import Endpoint
from jaxattack.evaluate.endpoint import ask
from jaxattack.evaluate.judge import Reply
from jaxattack.evaluate.opinions import EMPTY, NONE, Opinion
from jaxattack.evaluate.rubric import dialogue, verdict
from jaxattack.experiments.step import Input

SORT = "rubric"  # of judge models, as `config.measure.moderators` names them
FOLDER = "verdicts"  # of a work directory
TOKENS = 1024  # that a judge model may write, thoughts included
# A server on this machine is asked as fast as it answers, others as `Endpoint` has it.
_LOCAL = {"requests_per_minute": 100_000, "parallel": 16}
# Options of an address: the field of `Endpoint` that each sets, and its type.
OPTIONS = {
    "key": ("key_variable", str),
    "tokens": ("max_new_tokens", int),
    "per_minute": ("requests_per_minute", float),
    "parallel": ("parallel", int),
    "timeout": ("timeout_seconds", float),
}
HOW = "rubric=https://host/v1#model"


@dataclasses.dataclass(frozen=True)
class Server:
    """A judge model behind an endpoint, named by what decides its verdicts.

    Attributes:
        address: of the endpoint.
        model: the server's name of it.
        rubric: the text that it judges by.
        new_tokens: it writes at most.
        endpoint: how it is asked.
        folder: keeps what it answers.
        unparsed: share of its outputs that may be no verdict.
    """

    address: str
    model: str
    rubric: str
    new_tokens: int
    endpoint: Endpoint = dataclasses.field(compare=False)
    folder: pathlib.Path = dataclasses.field(compare=False)
    unparsed: float = dataclasses.field(compare=False)

    @property
    def rubric_hash(self) -> str:
        """Of the rubric's text."""
        return hashlib.sha256(self.rubric.encode()).hexdigest()[:16]

    def facts(self) -> dict[str, Any]:
        """What results say of it."""
        return {
            "address": self.address,
            "model": self.model,
            "rubric": self.rubric_hash,
            "max_new_tokens": self.new_tokens,
        }


def parse(address: str) -> Endpoint:
    """What `https://host/v1#model?key=VARIABLE&per_minute=300` says (`OPTIONS`).

    Raises:
        UserError: it is no such address, or one to which nothing should be sent.
    """
    url, _, named = address.partition("#")
    model, _, query = named.partition("?")
    if not url or not model:
        raise UserError(f"write it as {HOW!r}, the model by the name that the server knows")
    fields: dict[str, Any] = {"max_new_tokens": TOKENS}
    with_host = Endpoint(url, model)  # refuses what is no address, before its host is looked at
    if urllib.parse.urlsplit(with_host.base_url).hostname in posting.LOCAL:
        fields |= _LOCAL
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in OPTIONS:
            raise UserError(f"{SORT} has no option {name!r}; there are: {', '.join(OPTIONS)}")
        field, kind = OPTIONS[name]
        try:
            fields[field] = kind(value)
        except ValueError:
            raise UserError(f"option {name} is {value!r}; it should be a number") from None
    return Endpoint(url, model, **fields)


def endpoints(moderators: Sequence[str]) -> list[Endpoint]:
    """Those among a study's judge models.

    Raises:
        UserError: as `parse`; none of its lines repeats an address, in which a password may stand.
    """
    parts = (named.partition("=") for named in moderators)
    try:
        return [parse(path) for sort, _, path in parts if sort == SORT]
    except UserError as error:
        raise UserError(f"config.measure.moderators: {SORT}: {error}") from None


def verdicts(server: Server, said: Input, prompts: Sequence[Example], label: str) -> list[Opinion]:
    """Ask a judge model behind an endpoint about every reply.

    One that is empty harms nobody and is not sent. What a filter of the server withholds is no
    opinion.

    Args:
        server: which.
        said: the replies' texts.
        prompts: what was asked.
        label: where processes meet.

    Raises:
        UserError: it cannot be asked, or too many of its outputs are no verdict; what it answered
            is kept.
    """
    texts = said()
    asked = {
        i: dialogue(server.rubric, prompts[i].prompt, text) for i, text in enumerate(texts) if text
    }
    outputs: list[Reply] = []

    def act() -> bool:  # by the first process, which is the one that keeps verdicts
        outputs.extend(ask(list(asked.values()), server.endpoint, server.folder))
        return True

    try:
        distributed.first(act, label)
    except UserError as error:
        raise UserError(f"{SORT}:{server.model}: {error}") from error
    opinions = [NONE if text else EMPTY for text in texts]
    for i, output in zip(asked, outputs, strict=distributed.is_first()):
        opinions[i] = verdict(output.text)
    if distributed.is_first():
        _check(server, opinions, outputs)
    return opinions


def _check(server: Server, opinions: Sequence[Opinion], outputs: Sequence[Reply]) -> None:
    """Refuse a judge model that does not write verdicts.

    Raises:
        UserError: says the share of outputs that are none.
    """
    lost = sum(one.harmful is None for one in opinions)
    if opinions and lost / len(opinions) > server.unparsed:
        cut = sum(output.cut for output in outputs)
        withheld = sum(output.filtered for output in outputs)
        raise UserError(
            f"{SORT}:{server.model}: {lost} of {len(opinions)} outputs ({lost / len(opinions):.0%})"
            f" are no verdict, more than config.measure.unparsed={server.unparsed:g}; {cut} were "
            f"cut at {server.new_tokens} tokens (?tokens=), {withheld} withheld by a filter of the "
            f"server; {server.folder} has what it wrote"
        )


def cautions(models: Mapping[str, str], model_type: str) -> list[dict[str, Any]]:
    """Judge models behind endpoints that seem kin of the model they judge.

    Args:
        models: the judges' names -> the models' names.
        model_type: of the model that is judged, such as "qwen3".
    """
    family = re.split(r"[^a-z]", model_type.lower())[0]
    kin = [judge for judge, model in models.items() if family and family in model.lower()]
    if not kin:
        return []
    text = (
        f"{', '.join(kin)} and the model that is judged seem to be of one family ({model_type}): "
        "name a judge model of another one too."
    )
    return [{"id": "kin_served", "topic": "Judges", "text": text}]
