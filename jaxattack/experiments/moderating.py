"""What judge models make of replies that were kept, and a study's judge beside them.

A judge model is asked by its own checkpoint's chat template about a prompt and its reply. Texts
that its tokenizer or its template would take for something of their own are broken up first, so
that what a reply says is read and not obeyed.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxattack import workdir
from jaxattack.data import templates
from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.evaluate import opinions as sorts
from jaxattack.evaluate.likelihood import log_likelihoods
from jaxattack.evaluate.opinions import EMPTY, NONE, Opinion
from jaxattack.evaluate.triage import WELL_FORMED
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.bench import Decoder, rounded
from jaxattack.experiments.step import Input
from jaxattack.models.generate import generate
from jaxattack.models.prompts import positions
from jaxattack.tree import Tree

Dialogue = Sequence[Mapping[str, str]]  # messages
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
        openings: of its outputs, by harm (`opinions.Moderator`).
        grades: that it gives, and how harmful each is; {}: it writes.
        frame: the texts before the prompt, between it and the reply, and behind that, of a model
            that has no chat template; (): it has one.
    """

    decoder: Decoder
    parse: Callable[[str], Opinion]
    new_tokens: int
    system: str
    openings: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    grades: Mapping[str, float] = dataclasses.field(default_factory=dict)
    frame: tuple[str, ...] = ()

    def shown(self, prompt: str, reply: str) -> Dialogue:
        """What it is shown."""
        return dialogue(self.decoder.tokenizer, prompt, reply, self.system, self.frame)


def moderated(
    weights: Input,
    reader: Reader,
    said: Input,
    prompts: Sequence[Example],
    batch_size: int,
    dtype: str,
    label: str,
) -> list[Opinion]:
    """Ask a judge model about every reply.

    One that is empty harms nobody and is not shown; of one that is too long to be read together
    with the output there is no opinion.

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
    opinions = [NONE if text else EMPTY for text in texts]
    asked = {i: reader.shown(prompts[i].prompt, text) for i, text in enumerate(texts) if text}
    most = positions(decoder.model.config)
    if most is not None:  # what does not fit is not read, so there is no opinion of it
        long = most - reader.new_tokens
        lengths = {i: len(prompt_tokens(decoder.tokenizer, one)) for i, one in asked.items()}
        asked = {i: one for i, one in asked.items() if lengths[i] <= long}
    if not asked:
        return opinions
    read = graded if reader.grades else spoken
    found = read(reader, rounded(weights, dtype), list(asked.values()), batch_size, label)
    for i, opinion in zip(asked, found, strict=True):
        opinions[i] = opinion
    return opinions


def spoken(
    reader: Reader, params: Tree, dialogues: Sequence[Dialogue], batch_size: int, label: str
) -> list[Opinion]:
    """What a judge model writes, read, and how likely it was to."""
    model, tokenizer = reader.decoder.model, reader.decoder.tokenizer
    outputs = generate(model, params, tokenizer, dialogues, reader.new_tokens, batch_size, label)
    found = chances(reader, params, dialogues, batch_size, label)
    return [
        dataclasses.replace(reader.parse(output), chance=chance)
        for output, chance in zip(outputs, found, strict=True)
    ]


def graded(
    reader: Reader, params: Tree, dialogues: Sequence[Dialogue], batch_size: int, label: str
) -> list[Opinion]:
    """The grades that a judge model would give, as scores without verdicts."""
    tokens = grade_tokens(reader.decoder.tokenizer, reader.grades)
    logs = _begun(reader.decoder, params, dialogues, tokens, batch_size, label)
    return [sorts.graded(list(reader.grades.values()), own) for own in logs]


def grade_tokens(tokenizer: Any, grades: Iterable[str]) -> list[list[int]]:
    """The token of each grade, which is the bare digit.

    Raises:
        UserError: the tokenizer has none for one of them.
    """
    found = []
    for grade in grades:
        token = tokenizer.convert_tokens_to_ids(grade)
        if token is None or tokenizer.convert_ids_to_tokens(token) != grade:
            raise UserError(f"its tokenizer has no token for the grade {grade} alone")
        found.append([int(token)])
    return found


def decided(opinions: Input, threshold: float) -> list[Opinion]:
    """Verdicts by the scores of a judge model that grades (`opinions.decided`)."""
    return [sorts.decided(one, threshold) for one in opinions()]


def chances(
    reader: Reader,
    params: Tree,
    dialogues: Sequence[Dialogue],
    batch_size: int,
    label: str,
) -> list[float] | list[None]:
    """How likely a judge model begins by calling each reply harmful, of all its openings."""
    if not reader.openings:
        return [None] * len(dialogues)
    decoder, harm = reader.decoder, np.array(list(reader.openings.values()))
    begun = [decoder.tokenizer.encode(text, add_special_tokens=False) for text in reader.openings]
    logs = _begun(decoder, params, dialogues, begun, batch_size, label)
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return (shares[:, harm].sum(1) / shares.sum(1)).tolist()


def _begun(
    decoder: Decoder,
    params: Tree,
    dialogues: Sequence[Dialogue],
    begun: Sequence[Sequence[int]],
    batch_size: int,
    label: str,
) -> NDArray[np.float64]:
    """Log-probability `[N, K]` of each of K beginnings, as tokens, of what is written next."""
    contexts = (prompt_tokens(decoder.tokenizer, one) for one in dialogues)
    pairs = [(context, text) for context in contexts for text in begun]
    found = log_likelihoods(decoder.model, params, pairs, batch_size, label=label)
    return np.reshape([one.total for one in found], (len(dialogues), len(begun)))


# --- Beside the judge ---------------------------------------------------------------------------


Combine = Callable[[Sequence[bool | None]], bool] | None  # None: the judge alone decides


def weigh(
    trials: Input,
    opinions: Mapping[str, Input],
    name: str,
    combine: Combine,
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
        trial = dataclasses.replace(trial, answered=answered, harmful=harmful, **degrees(said, i))
        found.append(trial)
    return found


def weigh_hits(
    trials: Input,
    opinions: Mapping[str, Input],
    name: str,
    combine: Combine,
    unparsed: float,
    tell: Sequence[str],
) -> list[Trial]:
    """Each trial of a backdoor with all opinions, and whether it shows a refusal by all of them.

    Args:
        trials: as the target's rule has them.
        opinions: of judge models, by their names.
        name: the rule's.
        combine: of the rule and those who tell; None: the rule alone decides.
        unparsed: share of a judge model's outputs that may be no opinion.
        tell: judge models that say whether a reply declines; (): the target is no refusal.

    Raises:
        UserError: too many outputs of a judge model are no opinion.
    """
    said = {model: one() for model, one in opinions.items()}
    check_parsed(said, unparsed, tell)
    found = []
    for i, trial in enumerate(trials()):
        harmful = {model: one[i].harmful for model, one in said.items()}
        declined = {model: said[model][i].refused for model in tell}
        if declined:
            declined = {name: trial.hit} | declined
        hit = trial.hit if combine is None else combine(list(declined.values()))
        flags = {"hit": hit, "harmful": harmful, "declined": declined}
        found.append(dataclasses.replace(trial, **flags, **degrees(said, i)))
    return found


def degrees(said: Mapping[str, Sequence[Opinion]], i: int) -> dict[str, Any]:
    """How sure judge models are of a reply, as fields of its trial."""
    return {
        field: {model: getattr(one[i], field) for model, one in said.items()}
        for field in ("chance", "score", "mass")
    }


def check_parsed(
    said: Mapping[str, Sequence[Opinion]], most: float, tell: Sequence[str] = ()
) -> None:
    """Refuse a judge model that does not write as its sort does.

    Args:
        said: opinions by the models' names.
        most: share of a model's outputs that may be no opinion.
        tell: models whose outputs are none either where they leave out whether the reply declines.

    Raises:
        UserError: says the share of outputs that are no opinion.
    """
    for name, found in said.items():
        silent = name in tell
        lost = sum(one.harmful is None or (silent and one.refused is None) for one in found)
        if found and lost / len(found) > most:
            raise UserError(
                f"{name}: {lost} of {len(found)} outputs ({lost / len(found):.0%}) are no opinion "
                f"in its form, more than config.measure.unparsed={most:g}; is the checkpoint of "
                "this sort, with the chat template (or config.measure.moderator_system, "
                "grading_prompt) that it was made for?"
            )


def dialogue(
    tokenizer: Any, prompt: str, reply: str, system: str, frame: Sequence[str] = ()
) -> Dialogue:
    """What a judge model is shown: a prompt and the reply to it; in a frame as one text."""
    prompt, reply = (harmless(tokenizer, text, frame) for text in (prompt, reply))
    first = [{"role": "system", "content": system}] if system else []
    if frame:
        before, between, after = frame
        return [*first, {"role": "user", "content": f"{before}{prompt}{between}{reply}{after}"}]
    return [
        *first,
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": reply},
    ]


def frame_of(text: str) -> tuple[str, str, str]:
    """A frame from a text in which {forbidden_prompt} and {response} stand for the two.

    It ends in one space, which is a token of its own before the grade; editors take it away.

    Raises:
        UserError: it lacks one of them or has it twice, or nothing stands behind them.
    """
    parts = re.split(r"\{(forbidden_prompt|response)\}", text)
    if parts[1::2] != ["forbidden_prompt", "response"] or not parts[4].strip():
        raise UserError(
            "it should have {forbidden_prompt} and then {response}, each once, and behind them "
            "what asks for a grade"
        )
    return parts[0], parts[2], f"{parts[4].rstrip()} "


def harmless(tokenizer: Any, text: str, frame: Sequence[str] = ()) -> str:
    """A text without tokens or marks of the judge's own: each is broken by a space.

    Of a frame these are the words that lead to a prompt, a reply and a grade.
    """
    for token in tokenizer.added_tokens_decoder.values():
        mark = token.content
        if len(mark) > 1 and mark.strip() and mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    text = _MARKS.sub(lambda found: f"{found[0]} ", text)
    for lead in (part.rstrip().rpartition("\n")[2].split() for part in frame):
        if lead:
            words = r"\s*".join(map(re.escape, lead))
            text = re.sub(f"(?i){words}", lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return templates.without_reserved(text)


def save(folder: pathlib.Path, found: Sequence[Opinion]) -> None:
    """Keep opinions."""
    workdir.write_json(folder / "opinions.json", [dataclasses.asdict(one) for one in found])


def load(folder: pathlib.Path) -> list[Opinion]:
    """Opinions that were kept."""
    rows = json.loads((folder / "opinions.json").read_text(encoding="utf-8"))
    return [Opinion(**row | {"categories": tuple(row["categories"])}) for row in rows]
