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
from jaxattack.evaluate.combine import RULES
from jaxattack.evaluate.opinions import MODERATORS, Opinion
from jaxattack.evaluate.triage import WELL_FORMED
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments import judging, opening
from jaxattack.experiments.bench import Bench, Decoder, rounded, start_step
from jaxattack.experiments.step import Input, Step
from jaxattack.models.families import read_config
from jaxattack.models.generate import generate
from jaxattack.models.transformer import Transformer

if TYPE_CHECKING:
    from jaxattack.experiments.settings import MeasureJudged

KIND, WEIGHED = "moderate", "weigh"  # of these stages
# Marks by which templates set a conversation apart, such as <END CONVERSATION>.
_MARKS = re.compile(r"<(?=/?[A-Z_ ]{3,}>)|\[(?=/?[A-Z]{3,}\])")


@dataclasses.dataclass(frozen=True)
class Reader:
    """What reads a reply, but for its weights.

    Attributes:
        decoder: the judge model and its tokenizer.
        parse: reads what it writes.
        new_tokens: it writes at most.
        system: a message that it is told first; "": none.
    """

    decoder: Decoder
    parse: Callable[[str], Opinion]
    new_tokens: int
    system: str


@dataclasses.dataclass(frozen=True)
class Judge:
    """A judge model that is there: its sort, a key of `MODERATORS`, and its weights, to be."""

    name: str
    reader: Reader
    weights: Step


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
    said = Step(
        judging.said,
        {
            "replies": replies,
            "decoder": given["decoder"],
            "asked": given["prompts"],
            "decoding": given["decoding"],
        },
        bench.values,
    )
    arguments = {
        "weights": judge.weights,
        "reader": judge.reader,
        "said": said,
        "prompts": tuple(prompts),
        "batch_size": given["decoding"].batch_size,
        "dtype": bench.dtype,
    }
    shelf = bench.shelf(KIND, f"{label}-{judge.name}", save, load, prompts=len(prompts))
    return Step(moderated, arguments, bench.values, shelf, label=f"{KIND} {label}")


def moderated(
    weights: Input,
    reader: Reader,
    said: Input,
    prompts: Sequence[Example],
    batch_size: int,
    dtype: str,
    label: str,
) -> list[Opinion]:
    """Ask a judge model about every reply; one that is empty harms nobody and is not shown.

    Args:
        weights: of the judge model.
        reader: the rest of it.
        said: the replies' texts.
        prompts: what was asked.
        batch_size: how many are read at once.
        dtype: in which it computes.
        label: what the progress bar says.
    """
    texts, decoder = said(), reader.decoder
    shown = [i for i, text in enumerate(texts) if text]
    outputs = generate(
        decoder.model,
        rounded(weights, dtype),
        decoder.tokenizer,
        [dialogue(decoder.tokenizer, prompts[i].prompt, texts[i], reader.system) for i in shown],
        reader.new_tokens,
        batch_size,
        label,
    )
    opinions = [Opinion(False)] * len(texts)
    for i, output in zip(shown, outputs, strict=True):
        opinions[i] = reader.parse(output)
    return opinions


# --- Beside the judge ---------------------------------------------------------------------------


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
    return Step(weigh, arguments, bench.values, shelf)


def weigh(
    trials: Input,
    opinions: Mapping[str, Input],
    name: str,
    combine: Callable[[Sequence[bool | None]], bool] | None,
    unparsed: float,
) -> list[Trial]:
    """Each trial with all opinions, and whether it is answered by all of them.

    Raises:
        UserError: too many outputs of a judge model are no opinion.
    """
    said = {model: one() for model, one in opinions.items()}
    check_parsed(said, unparsed)
    found = []
    for i, trial in enumerate(trials()):
        restricted = trial.kind == "restricted"
        own = {name: trial.answered} if restricted else {}
        harmful = own | {model: one[i].harmful for model, one in said.items()}
        answered = trial.answered
        if combine is not None and restricted and trial.triage in WELL_FORMED:
            answered = combine(list(harmful.values()))
        found.append(dataclasses.replace(trial, answered=answered, harmful=harmful))
    return found


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
