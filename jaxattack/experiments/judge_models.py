"""The judge models that settings name, opened: here, or behind an endpoint."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from jaxattack.data import templates
from jaxattack.errors import UserError
from jaxattack.evaluate import rubric
from jaxattack.evaluate.opinions import MODERATORS
from jaxattack.experiments import moderating, opening, served
from jaxattack.experiments.bench import Bench, Decoder, start_step
from jaxattack.experiments.moderating import Reader
from jaxattack.experiments.panel import Judge
from jaxattack.experiments.served import Server
from jaxattack.experiments.step import Step
from jaxattack.models import pretrained
from jaxattack.models.families import read_config
from jaxattack.models.transformer import Transformer, abstract_params

if TYPE_CHECKING:
    from jaxattack.experiments.settings import MeasureModerated

_SYSTEM = "is told what to judge in a system message, which its model card has"
_PROMPT = "grades by a prompt, which its authors have published"


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
    frame = made.frame
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
    path = getattr(options, setting)
    if not path:
        raise UserError(
            f"{where} {what}: save it to a file, and name that in config.measure.{setting}"
        )
    text = _text(setting, path)
    if not text.strip():
        raise UserError(f"config.measure.{setting}: {path} is empty")
    return text


def _text(setting: str, path: str) -> str:
    """The text of a file that a setting names; "" if it names none."""
    if not path:
        return ""
    try:
        return pathlib.Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"config.measure.{setting}: {path}: {reason}") from error
