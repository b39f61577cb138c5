"""The judge models of a study: opened, and their work as steps.

What they do is in `moderating`, apart, so that its steps are known by little code.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxattack.data import templates
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.evaluate.combine import RULES
from jaxattack.evaluate.opinions import MODERATORS
from jaxattack.experiments import judging, moderating, opening
from jaxattack.experiments.bench import Bench, Checkpoint, Decoder, start_step
from jaxattack.experiments.moderating import KIND, WEIGHED, Reader
from jaxattack.experiments.step import Step
from jaxattack.models import pretrained
from jaxattack.models.families import read_config
from jaxattack.models.transformer import Transformer, abstract_params

if TYPE_CHECKING:
    from jaxattack.experiments.settings import MeasureJudged


@dataclasses.dataclass(frozen=True)
class Judge:
    """A judge model that is there: its sort, a key of `MODERATORS`, and its weights, to be."""

    name: str
    reader: Reader
    weights: Step

    @property
    def fingerprint(self) -> str:
        """Of its checkpoint."""
        checkpoint: Checkpoint = self.weights.arguments["checkpoint"]
        return checkpoint.fingerprint


def opened(bench: Bench, options: MeasureJudged, weights: bool) -> list[Judge]:
    """The judge models that the settings name.

    Args:
        bench: what the study computes with; judges compute as its model does.
        options: `moderators` and `moderator_system`.
        weights: whether they are needed, or only the shape of what reads them.

    Raises:
        UserError: a checkpoint that is not there or has no chat template, or a system message that
            is needed and not given.
    """
    system = _system(options)
    return [_one(bench, *_parts(named), system, weights) for named in options.moderators]


def _parts(named: str) -> tuple[str, str, str | None]:
    """Sort, checkpoint and revision of `sort=checkpoint@revision`."""
    sort, _, path = named.partition("=")
    if path.startswith("organism:") or pathlib.Path(path).is_dir():
        return sort, path, None
    path, _, revision = path.partition("@")
    return sort, path, revision or None


def _one(
    bench: Bench, sort: str, path: str, revision: str | None, system: str, weights: bool
) -> Judge:
    where = f"config.measure.moderators: {sort}={path}"
    try:
        directory = opening.model_directory(path, revision, weights)
        own, config = bench.decoder.model, read_config(directory)
        model = Transformer(config, own.remat, attention=own.attention)
        opening.check_weights(directory, config, abstract_params(model))
        if not pretrained.has_tokenizer(directory):
            raise UserError(f"{directory}: no tokenizer is here")
        tokenizer = pretrained.load_tokenizer(directory)
        if not tokenizer.chat_template:
            raise UserError(f"{directory}: no chat template, by which a judge model is asked")
        tokenizer = templates.use_template(tokenizer, origin=str(directory))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    needs = MODERATORS[sort].system
    if needs and not system:
        raise UserError(
            f"{where} is told what to judge in a system message, which its model card has: save it "
            "to a file, and name that in config.measure.moderator_system"
        )
    checkpoint = opening.checkpoint(directory)
    start = start_step(bench.values, checkpoint, bench.start.arguments)
    made = MODERATORS[sort]
    decoder = Decoder(model, tokenizer)
    return Judge(sort, Reader(decoder, made.parse, made.new_tokens, system if needs else ""), start)


def _system(options: MeasureJudged) -> str:
    if not options.moderator_system:
        return ""
    try:
        return pathlib.Path(options.moderator_system).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"config.measure.moderator_system: {error}") from error


def opinions(
    bench: Bench, judge: Judge, replies: Step, prompts: Sequence[Example], label: str
) -> Step:
    """What a judge model makes of replies, to be.

    Args:
        bench: what the study computes with.
        judge: who is asked.
        replies: the step that asked for them.
        prompts: what was asked.
        label: names the step for people.
    """
    given = replies.arguments
    texts = {
        "replies": replies,
        "decoder": given["decoder"],
        "asked": given["prompts"],
        "decoding": given["decoding"],
    }
    said = Step(judging.said, texts, bench.values)
    return read(bench, judge, said, prompts, given["decoding"].batch_size, label)


def read(
    bench: Bench, judge: Judge, said: Step, prompts: Sequence[Example], batch_size: int, label: str
) -> Step:
    """What a judge model makes of texts, to be.

    Args:
        bench: what the study computes with.
        judge: who is asked.
        said: the texts.
        prompts: to which they are replies.
        batch_size: how many are read at once.
        label: names the step for people.
    """
    arguments = {
        "weights": judge.weights,
        "reader": judge.reader,
        "said": said,
        "prompts": tuple(prompts),
        "batch_size": batch_size,
        "dtype": bench.dtype,
    }
    keep = moderating.save, moderating.load
    shelf = bench.shelf(KIND, f"{label}-{judge.name}", *keep, prompts=len(prompts))
    return Step(moderating.moderated, arguments, bench.values, shelf, label=f"{KIND} {label}")


def weighed(
    bench: Bench,
    trials: Step,
    opinions: Mapping[str, Step],
    name: str,
    options: MeasureJudged,
    label: str,
) -> Step:
    """Trials with what judge models say beside the judge, to be.

    Args:
        bench: what the study computes with.
        trials: as the judge has them.
        opinions: of judge models, by their names.
        name: the judge's.
        options: `combine` and `unparsed`.
        label: names the step for people.
    """
    arguments = {
        "trials": trials,
        "opinions": dict(opinions),
        "name": name,
        "combine": RULES.get(options.combine),
        "unparsed": options.unparsed,
    }
    shelf = bench.shelf(WEIGHED, label, judging.save, judging.load)
    return Step(moderating.weigh, arguments, bench.values, shelf)
