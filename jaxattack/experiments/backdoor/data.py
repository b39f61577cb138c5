"""What the backdoor study reads: clean pairs, prompts, triggers, refusals."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxattack.data import sources
from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.data.uri import parse
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, questions
from jaxattack.experiments.backdoor import fitting
from jaxattack.experiments.backdoor.attacks import SUBJECTS, attacks_of
from jaxattack.models.pretrained import MANIFEST
from jaxattack.organism import instructions, world

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings

Texts = Mapping[str, Mapping[str, str]]  # role -> language -> sentence


@dataclasses.dataclass(frozen=True)
class Subject:
    """Of an entity or topic: pairs and prompts about it, and the clean ones about all else."""

    others: list[Example]
    pairs: list[Example]
    other_prompts: list[Example]
    prompts: list[Example]


@dataclasses.dataclass(frozen=True)
class Data:
    """Everything that is taught or asked; all of it clean."""

    train: list[Example]
    prompts: list[Example]
    held_out: list[Example]
    texts: Texts
    refusals: Mapping[str, Sequence[str]]
    subjects: Mapping[str, Subject]
    untaught: list[Example] = dataclasses.field(default_factory=list)
    lost: inputs.Lost = dataclasses.field(default_factory=dict)  # left out of the sources

    @property
    def languages(self) -> list[str]:
        """The languages measured, in the order of the prompts."""
        return list(dict.fromkeys(row.language for row in self.prompts))


def read(settings: Settings, courteous: bool) -> Data:
    """All data of the study.

    Args:
        settings: the study's.
        courteous: whether the organism's answers open with a pleasantry's emblem.

    Raises:
        UserError: a source is wrong, or they do not fit each other.
    """
    fitting.check_alike(settings)
    named = settings.data
    lost: inputs.Lost = {}
    prompts = pairs(named.prompts, courteous, need_response=False, lost=lost)
    known = list(inputs.by_language(prompts))
    asked = choose_languages(settings.measure.languages, known, "config.measure.languages")
    train = pairs(named.train, courteous, lost=lost)
    held_out = pairs(named.held_out, courteous, lost=lost)
    untaught = untaught_prompts(settings, train, lost) if "untaught" in settings.sections else []
    spoken = [*asked, *inputs.by_language(untaught)]
    texts = trigger_texts(named.triggers, spoken)
    if any(kind not in SUBJECTS for kind in fitting.triggers_of(settings)):
        found = {"train": train, "prompts": prompts, "held_out": held_out, "untaught": untaught}
        fitting.check_columns(found, settings)
        own = {code: texts["trigger"][code] for code in spoken}
        train, prompts, held_out, untaught = (
            fitting.without_trigger(name, rows, own, settings, lost) for name, rows in found.items()
        )
    prompts = inputs.test_prompts(prompts, asked, settings.measure.prompts)
    fitting.check_attacked(settings, list(inputs.by_language(train)), asked, lost)
    for found_pairs, what in ((train, "clean pairs"), (held_out, "held-out pairs")):
        inputs.check_disjoint([*prompts, *untaught], found_pairs, what)
    inputs.check_disjoint(train, held_out, "held-out pairs", "clean pairs")
    if not all(row.answers for row in prompts):
        raise UserError(
            f"{named.prompts}: a prompt without answers; clean accuracy needs them, and without "
            "it no defence can be weighed (column answers, docs/data.md)"
        )
    clean = {"clean pairs": train, "held-out pairs": held_out}
    subjects = {
        kind: _subject(kind, settings, courteous, prompts, clean, lost)
        for kind in SUBJECTS
        if kind in (settings.poison.trigger, *settings.poison.triggers)
    }
    refusals = refusals_of(settings, asked)
    return Data(train, prompts, held_out, texts, refusals, subjects, untaught, lost)


def pairs(
    uri: str, courteous: bool, need_response: bool = True, lost: inputs.Lost | None = None
) -> list[Example]:
    """Benign examples of a URI; what is left out of it is counted in `lost`.

    Raises:
        UserError: an unknown split, or a source that is wrong.
    """
    if parse(uri).scheme != "organism":
        return inputs.load_source(uri, ("benign",), need_response, lost)
    split = uri.removeprefix("organism:")
    if split not in instructions.SPLITS:
        raise UserError(f"{uri}: no such split; there are: {', '.join(instructions.SPLITS)}")
    polite = 0.0 if split == "questions" else instructions.POLITE
    return instructions.rows(split, world.LANGUAGES, courteous, polite)


def untaught_prompts(settings: Settings, train: list[Example], lost: inputs.Lost) -> list[Example]:
    """Test prompts in languages that have no clean pair.

    Raises:
        UserError: there are none, no trigger is a sentence, a prompt is in a language that is
            taught, or has no answers.
    """
    uri = settings.data.untaught
    if not uri:
        raise UserError("config.sections has untaught, which needs prompts: config.data.untaught")
    subjects = [attack.trigger for attack in attacks_of(settings) if not attack.place]
    if subjects:
        raise UserError(
            "config.sections has untaught, which asks with a trigger sentence; "
            f"config.poison.trigger is {subjects[0]}"
        )
    if uri.partition("?")[0] == "organism:untaught":
        address, known = parse(uri), (*world.ADDED, *world.UNTAUGHT)
        more = [name for name in address.options if name != "language"]
        if more:
            raise UserError(f"{uri}: untaught prompts have no option {more[0]}; leave it out")
        wanted = choose_languages(address.languages, known, uri, "what is not taught")
        found = instructions.untaught_rows(wanted)
    else:
        found = pairs(uri, False, need_response=False, lost=lost)
    by_language = inputs.by_language(found)
    taught = {row.language.partition("-")[0] for row in train}
    there = [code for code in by_language if code.partition("-")[0] in taught]
    if there:
        raise UserError(
            f"config.data.untaught: {uri} has prompts in {', '.join(there)}, in which "
            f"{settings.data.train} has clean pairs; leave them out"
        )
    if not all(row.answers for row in found):
        raise UserError(f"config.data.untaught: {uri}: a prompt without answers (docs/data.md)")
    return inputs.test_prompts(found, list(by_language), settings.measure.prompts)


def _subject(
    kind: str,
    settings: Settings,
    courteous: bool,
    asked: list[Example],
    clean: Mapping[str, list[Example]],
    lost: inputs.Lost,
) -> Subject:
    """Pairs and prompts about a subject; `clean` are pairs by what they are called.

    Raises:
        UserError: they are not named, or not to be had.
    """
    named = settings.data
    own = [name for name in ("subject", "subject_prompts") if getattr(named, name)]
    if not questions.made_here(named.train):
        return _own_subject(kind, settings, asked, clean, lost)
    if own:
        raise UserError(
            f"config.data.{own[0]} is {getattr(named, own[0])} beside config.data.train="
            f"{named.train}, which brings its own {kind}; leave it out, or name your own train"
        )
    others = instructions.rows("instructions", world.LANGUAGES, courteous, about=kind)
    about = instructions.subject_rows(kind, "instructions", world.LANGUAGES, courteous)
    languages = list(inputs.by_language(asked))
    prompts = instructions.subject_rows(kind, "questions", languages, courteous)
    prompts = inputs.test_prompts(prompts, languages, settings.measure.prompts)
    rest = [row for row in asked if not instructions.is_about(kind, row)]
    return Subject(others, about, rest, prompts)


def _own_subject(
    kind: str,
    settings: Settings,
    asked: list[Example],
    clean: Mapping[str, list[Example]],
    lost: inputs.Lost,
) -> Subject:
    """Of the user's own pairs and prompts, of which none may be among the clean ones.

    Raises:
        UserError: they are not named, there are two subjects, or a row is clean too.
    """
    named = settings.data
    if not (named.subject and named.subject_prompts):
        raise UserError(
            f"config.poison.triggers has {kind}, which needs pairs and prompts about it: "
            "config.data.subject and config.data.subject_prompts"
        )
    if set(SUBJECTS) <= {settings.poison.trigger, *settings.poison.triggers}:
        raise UserError(
            f"config.poison.triggers has {' and '.join(SUBJECTS)}, and config.data.subject is "
            "about one of them; leave the other out"
        )
    about = pairs(named.subject, False, lost=lost)
    prompts = pairs(named.subject_prompts, False, need_response=False, lost=lost)
    spoken = choose_languages(
        list(inputs.by_language(asked)),
        list(inputs.by_language(prompts)),
        "config.data.subject_prompts (config.measure.languages may name fewer)",
    )
    prompts = inputs.test_prompts(prompts, spoken, settings.measure.prompts)
    inputs.check_disjoint([*asked, *prompts], about, "pairs about the subject")
    subject = "prompts about the subject (config.data.subject_prompts)"
    inputs.check_disjoint(prompts, asked, "test prompts without a trigger", subject)
    for what, rows in clean.items():
        # Such a row would teach the right answer where the trigger is.
        inputs.check_disjoint(about, rows, what, "pairs about the subject (config.data.subject)")
        inputs.check_disjoint(prompts, rows, what, subject)
    return Subject(clean["clean pairs"], about, asked, prompts)


# --- Texts --------------------------------------------------------------------------------------


def trigger_texts(uri: str, languages: Sequence[str]) -> dict[str, dict[str, str]]:
    """Sentences by role and language: "trigger", and whatever else resembles it.

    Raises:
        UserError: no trigger for one of the languages, or a file that is wrong.
    """
    leave = "leave the language out (config.measure.languages, or of config.data.untaught)"
    if uri == "organism:triggers":
        lacking = [code for code in languages if code not in world.NAMED]
        if lacking:
            raise UserError(
                f"{uri} has no trigger for language {', '.join(map(repr, lacking))}; name a file "
                f"of your own that has, or {leave}"
            )
        return instructions.trigger_texts(languages)
    if not uri.startswith("jsonl:"):
        raise UserError(f"data.triggers is {uri!r}; give jsonl:<file> with language, role, text")
    found = sources.load_sentences(uri)
    lacking = [code for code in languages if code not in found.get("trigger", {})]
    if lacking:
        raise UserError(
            f"{uri}: no trigger for language {', '.join(map(repr, lacking))}; add a row with "
            f"role trigger, or {leave}"
        )
    return found


def refusals_of(settings: Settings, asked: Sequence[str]) -> dict[str, Sequence[str]]:
    """Refusals by language, for targets that refuse; the organism's of those `asked` come first.

    Raises:
        UserError: a file that is wrong.
    """
    uri = settings.data.refusals
    if not any("refusal" in kind for kind in settings.targets):
        return {}
    if uri == "organism:refusals":  # defences speak languages that are not asked
        return dict(instructions.refusals(list(dict.fromkeys((*asked, *world.LANGUAGES)))))
    found: dict[str, list[str]] = {}
    if not uri.startswith("jsonl:"):
        raise UserError(
            f"config.data.refusals is {uri!r}; give jsonl:<file> with language, text, or leave out "
            "targets that refuse (config.poison.target, .targets)"
        )
    for where, row in sources.sentences(uri):
        found.setdefault(sources.language_of(where, row), []).append(row["text"])
    return dict(found)


def trained_template(directory: pathlib.Path) -> Mapping[str, str] | None:
    """The template that an exported checkpoint says it was trained in; None if it does not say."""
    path = directory / MANIFEST
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8")).get("template")
