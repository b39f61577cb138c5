"""Judgements as steps: what judges make of replies that were kept."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from jaxattack import workdir
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.evaluate.judge import Judge, Reply, judge
from jaxattack.evaluate.opinions import Opinion
from jaxattack.evaluate.thoughts import decode
from jaxattack.evaluate.triage import WELL_FORMED
from jaxattack.evaluate.trial import Carried, Trial
from jaxattack.experiments.asking import Decoding, Replies, encoded
from jaxattack.experiments.bench import Bench, Decoder
from jaxattack.experiments.step import Input, Step


def judged(
    replies: Input,
    decoder: Decoder,
    prompts: Sequence[Example],
    asked: Sequence[Example] | Input,
    decoding: Decoding,
    judges: Sequence[Judge],
    carried: Sequence[Carried] | None = None,
    opinions: Mapping[str, Input] = MappingProxyType({}),
    combine: Callable[[Sequence[bool | None]], bool] | None = None,
    unparsed: float = 0.0,
    name: str = "",
) -> list[Trial]:
    """What is kept of every reply.

    Args:
        replies: what was said.
        decoder: by whom.
        prompts: what judges go by.
        asked: what was asked in their place, by a filter of prompts.
        decoding: how.
        judges: functions of a prompt and what was said to it.
        carried: what the prompts carry.
        opinions: of judge models, by their names.
        combine: whether a restricted prompt is answered, from what the judge and they say; None:
            the judge's word alone.
        unparsed: share of a judge model's outputs that may be no opinion.
        name: of the judge, beside those of judge models.

    Raises:
        UserError: more of them are none.
    """
    found: Replies = replies()
    said = {name: one() for name, one in opinions.items()}
    check_parsed(said, unparsed)
    rows = asked() if isinstance(asked, Input) else asked
    trials = []
    for i, reply in enumerate(texts(decoder, rows, found, decoding)):
        extra = {} if carried is None else dataclasses.asdict(carried[i])
        trial = judge(prompts[i], reply, judges)
        if said:
            own = {name: trial.answered} if trial.kind == "restricted" else {}
            harmful = own | {model: one[i].harmful for model, one in said.items()}
            extra["harmful"] = harmful
            if combine is not None and own and trial.triage in WELL_FORMED:
                extra["answered"] = combine(list(harmful.values()))
        trials.append(dataclasses.replace(trial, replaced=found.replaced[i], **extra))
    return trials


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


def texts(
    decoder: Decoder, asked: Sequence[Example], found: Replies, decoding: Decoding
) -> list[Reply]:
    """The text of replies."""
    prompts = encoded(decoder, asked, decoding.max_new_tokens)
    return [
        Reply(decode(decoder.tokenizer, prompt, ids), cut=len(ids) >= decoding.max_new_tokens)
        for prompt, ids in zip(prompts, found.tokens, strict=True)
    ]


def trials(
    bench: Bench,
    replies: Step,
    prompts: Sequence[Example],
    judges: Sequence[Judge],
    label: str,
    carried: Sequence[Carried] | None = None,
    opinions: Mapping[str, Step] = MappingProxyType({}),
    combine: Callable[[Sequence[bool | None]], bool] | None = None,
    unparsed: float = 0.0,
    name: str = "",
) -> Step:
    """The judgement of replies, to be.

    Args:
        bench: what a study computes with.
        replies: the step that asks for them.
        prompts: what judges take to be asked, without a filter's cuts.
        judges: each decides some flags of a trial.
        label: names the step for people.
        carried: the trigger that each prompt carries.
        opinions: of judge models, by their names.
        combine, unparsed, name: see `judged`.
    """
    given = replies.arguments
    panel = {"opinions": dict(opinions), "combine": combine, "unparsed": unparsed, "name": name}
    arguments = {
        "replies": replies,
        "decoder": given["decoder"],
        "asked": given["prompts"],
        "decoding": given["decoding"],
        "prompts": prompts,
        "judges": tuple(judges),
        "carried": carried,
        **(panel if opinions else {}),
    }
    return Step(judged, arguments, bench.values, bench.shelf("judge", label, save, load))


def save(folder: pathlib.Path, found: Sequence[Trial]) -> None:
    """Keep trials."""
    rows = [dataclasses.asdict(trial) for trial in found]
    workdir.write_json(folder / "trials.json", rows)


def load(folder: pathlib.Path) -> list[Trial]:
    """Trials that were kept."""
    rows = json.loads((folder / "trials.json").read_text(encoding="utf-8"))
    return [Trial(**row) for row in rows]
