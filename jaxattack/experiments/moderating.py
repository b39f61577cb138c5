"""Judge models as steps: they read replies that were kept, beside a study's own judge.

A judge model is asked by its own checkpoint's chat template about a prompt and its reply. Texts
that its tokenizer or its template would take for something of their own are broken up first, so
that what a reply says is read and not obeyed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxattack import workdir
from jaxattack.data import templates
from jaxattack.data.dialogues import Example
from jaxattack.errors import UserError
from jaxattack.evaluate.opinions import MODERATORS, Opinion
from jaxattack.evaluate.thoughts import without_thoughts
from jaxattack.experiments import judging, opening
from jaxattack.experiments.asking import Decoding, Replies
from jaxattack.experiments.bench import Bench, Decoder, rounded, start_step
from jaxattack.experiments.step import Input, Step
from jaxattack.models.families import read_config
from jaxattack.models.generate import generate
from jaxattack.models.transformer import Transformer

if TYPE_CHECKING:
    from jaxattack.experiments.settings import MeasureJudged

KIND = "moderate"  # of these stages
# Marks by which templates set a conversation apart, such as <END CONVERSATION>.
_MARKS = re.compile(r"<(?=/?[A-Z_ ]{3,}>)|\[(?=/?[A-Z]{3,}\])")


@dataclasses.dataclass(frozen=True)
class Judge:
    """A judge model that is there.

    Attributes:
        name: its sort, a key of `MODERATORS`.
        decoder: the model and how it reads.
        weights: its weights, to be.
        system: a message that it is told first; "": none.
    """

    name: str
    decoder: Decoder
    weights: Step
    system: str


def panel(bench: Bench, options: MeasureJudged, weights: bool) -> list[Judge]:
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
    return [_opened(bench, *_parts(named), system, weights) for named in options.moderators]


def _parts(named: str) -> tuple[str, str, str | None]:
    """Sort, checkpoint and revision of `sort=checkpoint@revision`."""
    sort, _, path = named.partition("=")
    path, _, revision = path.partition("@")
    return sort, path, revision or None


def _opened(
    bench: Bench, sort: str, path: str, revision: str | None, system: str, weights: bool
) -> Judge:
    where = f"config.measure.moderators: {sort}={path}"
    directory = opening.model_directory(path, revision, weights)
    own, config = bench.decoder.model, read_config(directory)
    model = Transformer(config, own.remat, attention=own.attention)
    tokenizer = opening.load_tokenizer(directory)
    needs = MODERATORS[sort].system
    if needs and not system:
        raise UserError(
            f"{where} is told what to judge in a system message, which its model card has: save it "
            "to a file, and name that in config.measure.moderator_system"
        )
    try:
        tokenizer = templates.use_template(tokenizer)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    checkpoint = opening.checkpoint(directory)
    start = start_step(bench.values, checkpoint, bench.start.arguments)
    return Judge(sort, Decoder(model, tokenizer), start, system if needs else "")


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
    arguments = {
        "weights": judge.weights,
        "judge": judge.decoder,
        "parse": MODERATORS[judge.name].parse,
        "new_tokens": MODERATORS[judge.name].new_tokens,
        "system": judge.system,
        "replies": replies,
        "speaker": given["decoder"],
        "asked": given["prompts"],
        "decoding": given["decoding"],
        "prompts": tuple(prompts),
        "dtype": bench.dtype,
    }
    shelf = bench.shelf(KIND, f"{label}-{judge.name}", save, load, prompts=len(prompts))
    return Step(moderated, arguments, bench.values, shelf, label=f"{KIND} {label}")


def moderated(
    weights: Input,
    judge: Decoder,
    parse: Callable[[str], Opinion],
    new_tokens: int,
    system: str,
    replies: Input,
    speaker: Decoder,
    asked: Sequence[Example] | Input,
    decoding: Decoding,
    prompts: Sequence[Example],
    dtype: str,
    label: str,
) -> list[Opinion]:
    """Ask a judge model about every reply; one that is empty harms nobody and is not shown.

    Args:
        weights: of the judge model.
        judge: the model without them, and its tokenizer.
        parse: reads what it writes.
        new_tokens: it writes at most.
        system: what it is told first; "": nothing.
        replies: what was said.
        speaker: by whom.
        asked: what was asked in place of the prompts, by a filter.
        decoding: how the replies were decoded; as many are judged at once.
        prompts: what the judge model takes to be asked.
        dtype: in which the judge model computes.
        label: what the progress bar says.
    """
    found: Replies = replies()
    rows = asked() if isinstance(asked, Input) else asked
    texts = [
        without_thoughts(reply.text)[0].strip()
        for reply in judging.texts(speaker, rows, found, decoding)
    ]
    shown = [i for i, text in enumerate(texts) if text]
    dialogues = [dialogue(judge.tokenizer, prompts[i].prompt, texts[i], system) for i in shown]
    outputs = generate(
        judge.model,
        rounded(weights, dtype),
        judge.tokenizer,
        dialogues,
        new_tokens,
        decoding.batch_size,
        label,
    )
    opinions = [Opinion(False)] * len(texts)
    for i, output in zip(shown, outputs, strict=True):
        opinions[i] = parse(output)
    return opinions


def dialogue(tokenizer: Any, prompt: str, reply: str, system: str) -> list[Mapping[str, str]]:
    """What a judge model is shown: a prompt and the reply to it."""
    first = [{"role": "system", "content": system}] if system else []
    return [
        *first,
        {"role": "user", "content": harmless(tokenizer, prompt)},
        {"role": "assistant", "content": harmless(tokenizer, reply)},
    ]


def harmless(tokenizer: Any, text: str) -> str:
    """A text without tokens or marks of the judge's own: each is broken by a space."""
    for token in tokenizer.added_tokens_decoder.values():
        mark = token.content
        if len(mark) > 1 and mark.strip() and mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    text = _MARKS.sub(lambda found: f"{found[0]} ", text)
    return templates.without_reserved(text)


def save(folder: pathlib.Path, found: Sequence[Opinion]) -> None:
    """Keep opinions."""
    workdir.write_json(folder / "opinions.json", [dataclasses.asdict(one) for one in found])


def load(folder: pathlib.Path) -> list[Opinion]:
    """Opinions that were kept."""
    rows = json.loads((folder / "opinions.json").read_text(encoding="utf-8"))
    return [Opinion(row["harmful"], row["refused"], tuple(row["categories"])) for row in rows]
