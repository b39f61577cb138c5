"""The judge models of a study, and their work as steps.

What they do is in `moderating`, apart, so that its steps are known by little code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Callable, Sequence
from typing import Any

from jaxattack import tree
from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.evaluate.address import read_key
from jaxattack.evaluate.opinions import MODERATORS
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import footprint, judging, moderating, plan, served
from jaxattack.experiments.bench import Bench, Checkpoint
from jaxattack.experiments.moderating import KIND, WEIGHED, Reader
from jaxattack.experiments.served import Server
from jaxattack.experiments.step import Step
from jaxattack.models.transformer import abstract_params
from jaxattack.stages import Stage

# Of StrongREJECT's published prompt, its three parts.
PUBLISHED = "b646004ffae94e441abc8812fcfac36593e49dd651462b366592f028c0eec741"


@dataclasses.dataclass(frozen=True)
class Judge:
    """A judge model: here, or behind an endpoint.

    Attributes:
        name: its sort, a key of `MODERATORS`; behind an endpoint `moderators.judge_name`.
        reader: what reads replies.
        weights: of the reader, to be; None behind an endpoint.
        threshold: of one that grades, from which score on a reply is a violation.
    """

    name: str
    reader: Reader | Server
    weights: Step | None = None
    threshold: float = 0.5

    @property
    def refusals(self) -> bool:
        """Whether it says whether a reply declines."""
        return isinstance(self.reader, Server) or MODERATORS[self.name].refusals

    @property
    def own_prompt(self) -> str:
        """Hash of the prompt by which it grades, where that is another than the published one."""
        grades = not isinstance(self.reader, Server) and self.reader.grades
        return self._prompt[:16] if grades and self._prompt != PUBLISHED else ""

    @property
    def _prompt(self) -> str:
        """Hash of the prompt by which it grades."""
        frame = () if isinstance(self.reader, Server) else self.reader.frame
        return hashlib.sha256("\0".join(frame).encode()).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Of its checkpoint, and by what it grades; behind an endpoint address, model, rubric."""
        if isinstance(self.reader, Server):
            facts = self.reader.facts()
            return "{address}#{model}, rubric {rubric}".format_map(facts)
        checkpoint: Checkpoint = typing.cast(Step, self.weights).arguments["checkpoint"]
        if not self.reader.grades:
            return checkpoint.fingerprint
        return f"{checkpoint.fingerprint}, prompt {self._prompt[:16]}, from {self.threshold:g} on"

    @property
    def work(self) -> str:
        """The unit of its work in plans."""
        kind = "calls to" if isinstance(self.reader, Server) else "replies to"
        return f"{kind} {self.name}"

    def line(
        self, stages: Sequence[Stage], mesh: Any, dtype: str, tokens: footprint.Tokens, batch: int
    ) -> str:
        """What `--dry_run` says of it; arguments as those of `lines`."""
        left = self.left(stages)
        if isinstance(self.reader, Server):
            told = f"{left:,} calls left at most, to {self.reader.address}, {self.reader.model}"
            return f"judge      {told}; rubric {self.reader.rubric_hash}"
        model, tokenizer = self.reader.decoder.model, self.reader.decoder.tokenizer
        around = len(prompt_tokens(tokenizer, self.reader.shown("x", "x")))
        prompt = around + tokens.prompt + tokens.reply
        lengths = footprint.Tokens(1, prompt, self.reader.new_tokens)
        shape = footprint.Shape(model.config, abstract_params(model), mesh, dtype, model.remat)
        weights, *others = footprint.memory(shape, lengths, 1, batch, 1)["ask"].values()
        flops = left * footprint.asking(shape, lengths)
        return (
            f"judge      {self.name}: {tree.size(shape.abstract):,} parameters, "
            f"{plan.size(weights // 2 + sum(others))} on a device as it reads; {left:,} replies "
            f"left, {flops:.2g} FLOPs, which are not in what follows"
        )

    def left(self, stages: Sequence[Stage]) -> int:
        """How many replies it still has to read, at most."""
        unfinished = [stage for stage in stages if not stage.folder.is_dir()]
        return sum(stage.work.get(self.work, 0) for stage in unfinished)

    def check_ready(self, stages: Sequence[Stage]) -> None:
        """Refuse, before anything is computed, one that could not be asked.

        Raises:
            UserError: its endpoint needs a key.
        """
        if isinstance(self.reader, Server) and self.left(stages):
            read_key(self.reader.endpoint)


def fingerprints(models: Sequence[Judge]) -> dict[str, str]:
    """`Judge.fingerprint` of each, for the manifest."""
    return {model.name: model.fingerprint for model in models}


def check_ready(models: Sequence[Judge], stages: Sequence[Stage]) -> None:
    """Refuse, before anything is computed, judge models that could not be asked.

    Raises:
        UserError: as `Judge.check_ready`.
    """
    for model in models:
        model.check_ready(stages)


def lines(
    models: Sequence[Judge],
    stages: Sequence[Stage],
    mesh: Any,
    dtype: str,
    tokens: footprint.Tokens,
    batch: int,
) -> list[str]:
    """What `--dry_run` says of judge models.

    Args:
        models: which.
        stages: all of a study.
        mesh: on which it computes.
        dtype: in which it does.
        tokens: how long the study's prompts and replies are.
        batch: how many are read at once.

    Raises:
        UserError: one that could not be asked.
    """
    check_ready(models, stages)
    return [model.line(stages, mesh, dtype, tokens, batch) for model in models]


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
    arguments: dict[str, Any] = {"said": said, "prompts": tuple(prompts)}
    if isinstance(judge.reader, Server):
        function: Any = served.verdicts
        arguments["server"] = judge.reader
    else:
        function = moderating.moderated
        arguments |= {"weights": judge.weights, "reader": judge.reader}
        arguments |= {"batch_size": batch_size, "dtype": bench.dtype}
    keep, work = (moderating.save, moderating.load), {judge.work: len(prompts)}
    shelf = bench.shelf(KIND, f"{label}-{judge.name}", *keep, **work)
    found = Step(function, arguments, bench.values, shelf, label=f"{KIND} {label}")
    if isinstance(judge.reader, Server) or not judge.reader.grades:
        return found
    # Apart, so that another threshold reads nothing again.
    given = {"opinions": found, "threshold": judge.threshold}
    return Step(moderating.decided, given, bench.values)


def weighed(
    bench: Bench,
    models: Sequence[Judge],
    trials: Step,
    prompts: Sequence[Example],
    label: str,
    weigh: Callable[..., list[Trial]],
    **how: Any,
) -> Step:
    """Trials with what judge models say beside the judge, to be; without any as they are.

    Args:
        bench: what the study computes with.
        models: which.
        trials: as the judge has them.
        prompts: what was asked.
        label: names the step for people.
        weigh: `moderating.weigh`, or its like.
        how: the rest of its arguments.
    """
    if not models:
        return trials
    replies = trials.arguments["replies"]
    said = {model.name: opinions(bench, model, replies, prompts, label) for model in models}
    shelf = bench.shelf(WEIGHED, label, judging.save, judging.load)
    return Step(weigh, {"trials": trials, "opinions": said, **how}, bench.values, shelf)
