"""Judgements as steps: what judges make of replies that were kept."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from jaxattack import workdir
from jaxattack.data.dialogues import Example
from jaxattack.evaluate.judge import Judge, Reply, judge
from jaxattack.evaluate.thoughts import decode, without_thoughts
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
    """
    found: Replies = replies()
    rows = asked() if isinstance(asked, Input) else asked
    trials = []
    for i, reply in enumerate(texts(decoder, rows, found, decoding)):
        extra = {} if carried is None else dataclasses.asdict(carried[i])
        trial = judge(prompts[i], reply, judges)
        trials.append(dataclasses.replace(trial, replaced=found.replaced[i], **extra))
    return trials


def said(
    replies: Input, decoder: Decoder, asked: Sequence[Example] | Input, decoding: Decoding
) -> list[str]:
    """What was said beside thoughts."""
    rows = asked() if isinstance(asked, Input) else asked
    found = texts(decoder, rows, replies(), decoding)
    return [without_thoughts(reply.text)[0].strip() for reply in found]


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
) -> Step:
    """The judgement of replies, to be.

    Args:
        bench: what a study computes with.
        replies: the step that asks for them.
        prompts: what judges take to be asked, without a filter's cuts.
        judges: each decides some flags of a trial.
        label: names the step for people.
        carried: the trigger that each prompt carries.
    """
    given = replies.arguments
    arguments = {
        "replies": replies,
        "decoder": given["decoder"],
        "asked": given["prompts"],
        "decoding": given["decoding"],
        "prompts": prompts,
        "judges": tuple(judges),
        "carried": carried,
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
