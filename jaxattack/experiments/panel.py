"""The judge models of a study: opened, and their work as steps.

What they do is in `moderating`, apart, so that its steps are known by little code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jaxattack import tree
from jaxattack.data import templates
from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.evaluate import rubric
from jaxattack.evaluate.address import read_key
from jaxattack.evaluate.opinions import MODERATORS
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import judging, moderating, opening, plan, served
from jaxattack.experiments.bench import Bench, Checkpoint, Decoder, start_step
from jaxattack.experiments.moderating import KIND, WEIGHED, Reader
from jaxattack.experiments.served import Server
from jaxattack.experiments.step import Step
from jaxattack.models import pretrained
from jaxattack.models.families import read_config
from jaxattack.models.transformer import Transformer, abstract_params
from jaxattack.stages import Stage

if TYPE_CHECKING:
    from jaxattack.experiments.settings import MeasureModerated

# Of StrongREJECT's published prompt, its three parts.
PUBLISHED = "b646004ffae94e441abc8812fcfac36593e49dd651462b366592f028c0eec741"
_SYSTEM = "is told what to judge in a system message, which its model card has"
_PROMPT = "grades by a prompt, which its authors have published"


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
        frame = () if isinstance(self.reader, Server) else self.reader.frame
        found = hashlib.sha256("\0".join(frame).encode()).hexdigest()
        return found[:16] if frame and found != PUBLISHED else ""

    @property
    def fingerprint(self) -> str:
        """Of its checkpoint; behind an endpoint its address, model and rubric."""
        if isinstance(self.reader, Server):
            facts = self.reader.facts()
            return "{address}#{model}, rubric {rubric}".format_map(facts)
        checkpoint: Checkpoint = typing.cast(Step, self.weights).arguments["checkpoint"]
        return checkpoint.fingerprint

    @property
    def work(self) -> str:
        """The unit of its work in plans."""
        kind = "calls to" if isinstance(self.reader, Server) else "replies to"
        return f"{kind} {self.name}"

    def line(
        self, stages: Sequence[Stage], mesh: Any, dtype: str, tokens: plan.Tokens, batch: int
    ) -> str:
        """What `--dry_run` says of it; arguments as those of `lines`."""
        left = self.left(stages)
        if isinstance(self.reader, Server):
            told = f"{left:,} calls left at most, to {self.reader.address}, {self.reader.model}"
            return f"judge      {told}; rubric {self.reader.rubric_hash}"
        model, tokenizer = self.reader.decoder.model, self.reader.decoder.tokenizer
        around = len(prompt_tokens(tokenizer, self.reader.shown("x", "x")))
        prompt = around + tokens.prompt + tokens.reply
        lengths = plan.Tokens(1, prompt, self.reader.new_tokens)
        shape = plan.Shape(model.config, abstract_params(model), mesh, dtype, model.remat)
        weights, *others = plan.memory(shape, lengths, 1, batch, 1)["ask"].values()
        flops = left * plan.forward(shape, prompt + self.reader.new_tokens)
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


def opened(
    bench: Bench, options: MeasureModerated, weights: bool, start: Step | None = None
) -> list[Judge]:
    """The judge models that the settings name.

    Args:
        bench: what the study computes with; judges compute as its model does.
        options: `moderators`, what they are told, `threshold` and `unparsed`.
        weights: whether they are needed, or only the shape of what reads them.
        start: of whose checkpoint judges' are read alike; by default that of the bench.

    Raises:
        UserError: a checkpoint that is not there or has no chat template, a text that is needed
            and not given, or a file that cannot be read.
    """
    start = start or bench.start
    return [
        _behind(bench, path, options)
        if sort == served.SORT
        else _one(bench, start, sort, *_revised(path), options, weights)
        for sort, _, path in (named.partition("=") for named in options.moderators)
    ]


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
    tokens: plan.Tokens,
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


def _behind(bench: Bench, path: str, options: MeasureModerated) -> Judge:
    """A judge model behind an endpoint."""
    endpoint = served.parse(path)
    told = _text("rubric", options.rubric or str(rubric.DEFAULT))
    if not told.strip():
        raise UserError(f"config.measure.rubric: {options.rubric} is empty")
    server = Server(
        endpoint.address,
        endpoint.model,
        told,
        endpoint.max_new_tokens,
        endpoint,
        bench.root / served.FOLDER,
        options.unparsed,
    )
    return Judge(f"{served.SORT}:{endpoint.model}", server)


def _revised(path: str) -> tuple[str, str | None]:
    """Checkpoint and revision of `checkpoint@revision`."""
    if path.startswith("organism:") or pathlib.Path(path).is_dir():
        return path, None
    path, _, revision = path.partition("@")
    return path, revision or None


def _one(
    bench: Bench,
    start: Step,
    sort: str,
    path: str,
    revision: str | None,
    options: MeasureModerated,
    weights: bool,
) -> Judge:
    """A judge model that is read here."""
    made = MODERATORS[sort]
    where = f"config.measure.moderators: {sort}={path}"
    try:
        directory = opening.model_directory(path, revision, weights)
        study, config = bench.decoder.model, read_config(directory)
        model = Transformer(config, study.remat, attention=study.attention)
        opening.check_weights(directory, config, abstract_params(model))
        if not pretrained.has_tokenizer(directory):
            raise UserError(f"{directory}: no tokenizer is here")
        tokenizer = pretrained.load_tokenizer(directory)
        if made.grades:
            moderating.grade_tokens(tokenizer, made.grades)
        elif not tokenizer.chat_template:
            raise UserError(f"{directory}: no chat template, by which a judge model is asked")
        source = templates.PLAIN if made.grades else ""
        tokenizer = templates.use_template(tokenizer, source, origin=str(directory))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    system = _needed(where, "moderator_system", options, _SYSTEM) if made.system else ""
    frame: tuple[str, ...] = ()
    if made.grades:
        text = _needed(where, "grading_prompt", options, _PROMPT)
        try:
            frame = moderating.frame_of(text)
        except UserError as error:
            raise UserError(f"config.measure.grading_prompt: {error}") from error
    reader = Reader(
        Decoder(model, tokenizer),
        made.parse,
        made.new_tokens,
        system,
        made.openings,
        made.grades,
        frame,
    )
    checkpoint = opening.checkpoint(directory)
    own = start_step(bench.values, checkpoint, start.arguments)
    return Judge(sort, reader, own, options.threshold)


def _needed(where: str, setting: str, options: MeasureModerated, what: str) -> str:
    """A text that a judge model needs.

    Raises:
        UserError: no file is named, or it cannot be read.
    """
    text = _text(setting, getattr(options, setting))
    if not text:
        raise UserError(
            f"{where} {what}: save it to a file, and name that in config.measure.{setting}"
        )
    return text


def _text(setting: str, path: str) -> str:
    """The text of a file that a setting names; "" if it names none."""
    if not path:
        return ""
    try:
        return pathlib.Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"config.measure.{setting}: {error}") from error


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
