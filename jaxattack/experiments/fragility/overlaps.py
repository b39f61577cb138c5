"""A3: whether languages share the weights, beside chance, benign fine-tuning and other seeds."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Sequence

from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, opening, questions, tables, writing
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import BENIGN, RESTRICTED, Pairs, find
from jaxattack.experiments.bench import start_step
from jaxattack.experiments.fragility.setup import Setup
from jaxattack.experiments.fragility.sil import sil_mask, sil_movable
from jaxattack.experiments.step import Step
from jaxattack.localize import masks, representations


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A mask of SIL's: of which attack, and perhaps without what benign tuning needs as well."""

    setup: Setup
    language: str
    seed: int
    kind: str = RESTRICTED
    without_benign: bool = False

    @property
    def mask(self) -> Step:
        """The mask."""
        return self._of(sil_mask)

    @property
    def movable(self) -> Step:
        """What it was chosen from."""
        return self._of(sil_movable)

    def _of(self, found: Callable[..., Step]) -> Step:
        weights = found(self.setup, self.language, self.seed, self.kind)
        if not self.without_benign:
            return weights
        benign = sil_mask(self.setup, self.language, self.seed, BENIGN)
        return self.setup.bench.values.derived(masks.minus, weights, benign)


def overlaps(agenda: Agenda, setup: Setup) -> None:
    """Overlaps of masks, and how alike the languages' representations are.

    Masks of two languages, two seeds, two sets of pairs; each also after taking away what benign
    tuning in the same language needs (Li et al. 2026).
    """
    first, *others = setup.settings.seeds
    sets = compared(agenda, setup)
    for seed in setup.settings.seeds:
        # Every language's mask once; those that are stitched with every seed.
        languages = setup.data.localized
        if seed == first and setup.settings.shared.languages == "attacked":
            languages = setup.data.attacked
        for a, b in itertools.combinations(languages, 2):
            _compare(agenda, "sil", Chosen(setup, a, seed), Chosen(setup, b, seed))
        for language in setup.data.localized:
            mask = Chosen(setup, language, seed)
            if _has_benign(setup, language):
                _compare(agenda, "benign", mask, Chosen(setup, language, seed, BENIGN))
            if seed in others:
                _compare(agenda, "seeds", mask, Chosen(setup, language, first))
            for name, other in sets.items():
                _compare(agenda, "sets", mask, Chosen(other, language, seed), name)
    if setup.settings.shared.similarity:
        _similarity(agenda, setup)


def _has_benign(setup: Setup, language: str) -> bool:
    return language in setup.data.pairs[BENIGN] and setup.settings.transfer.benign


def _compare(agenda: Agenda, method: str, one: Chosen, two: Chosen, name: str = "") -> None:
    setup = one.setup
    columns = {"a": one.language, "b": two.language, "share": setup.share, "seed": one.seed}
    columns |= {"set": name} if name else {}
    where = filter(None, (name, one.language, two.language, f"s{one.seed}"))
    label = "-".join(where)
    pairs = {method: (one, two)}
    if method != "benign" and all(_has_benign(each.setup, each.language) for each in (one, two)):
        pairs[f"{method} minus benign"] = (
            dataclasses.replace(one, without_benign=True),
            dataclasses.replace(two, without_benign=True),
        )
    for kind, (a, b) in pairs.items():
        parts, named = (a.mask, b.mask, a.movable, b.movable), columns | {"method": kind}
        find(agenda, setup, "overlap", f"{kind}-{label}", tables.overlap, *parts, columns=named)
    if method == "sil":
        both = one.mask, two.mask
        find(agenda, setup, "overlap_by_place", label, tables.by_place, *both, columns=columns)


def compared(agenda: Agenda, setup: Setup) -> dict[str, Setup]:
    """The other sets of pairs whose masks are compared, each with the checkpoint that it attacks.

    Raises:
        UserError: a checkpoint that is not used as the study's own is, pairs that lack a language,
            or that are the study's own or another's.
    """
    options, found = setup.settings.shared, {"": setup}
    models = options.models or ("",) * len(options.pairs)
    for path, uri in zip(models, options.pairs, strict=True):
        name = " ".join(filter(None, (pathlib.Path(path).name, uri)))
        lost: inputs.Lost = {}
        other = _other(setup, path, uri, lost)
        for there in found.values():
            if (there.bench.start.id, there.data.pairs) == (other.bench.start.id, other.data.pairs):
                raise UserError(f"config.shared.pairs: {name} is compared already, or the study's")
        found[name] = other
        agenda.skipped.update(lost)
    del found[""]
    return found


def _other(setup: Setup, path: str, uri: str, lost: inputs.Lost) -> Setup:
    settings, bench = setup.settings, setup.bench
    # A revision is of the study's own repository.
    name, revision = (path, None) if path else (settings.model, settings.revision)
    directory = opening.model_directory(name, revision)
    if path:
        questions.check_policy({"config.shared.pairs": uri}, directory)
        bench = dataclasses.replace(bench, start=_start(setup, path, directory))
    pairs = inputs.load_pairs(uri, "", directory, lost)
    calibration: dict[str, Pairs | None] = {RESTRICTED: None, BENIGN: None}
    if beside := questions.set_aside(uri):
        calibration = dict(inputs.load_pairs(beside, "", directory, lost))
    choose_languages(
        setup.data.localized, list(pairs[RESTRICTED]), "config.localize.languages", uri
    )
    data = dataclasses.replace(setup.data, pairs=pairs, calibration=calibration)
    return dataclasses.replace(setup, bench=bench, data=data)


def _start(setup: Setup, path: str, directory: pathlib.Path) -> Step:
    """The weights of another checkpoint, which has to compute and write as the study's own does."""
    bench, where = setup.bench, f"config.shared.models: {path}"
    config = opening.check_config(where, directory, bench.decoder.model.config)
    opening.check_weights(directory, config, bench.like)
    tokenizer = opening.load_tokenizer(directory, setup.settings.tokenizer)
    template = setup.settings.template
    tokenizer = writing.writer(template, tokenizer, bench.root, keep_day=False)
    theirs, ours = (
        (each.get_vocab(), writing.written(each)) for each in (tokenizer, bench.decoder.tokenizer)
    )
    if theirs != ours:
        raise UserError(f"{where} has another tokenizer or chat template than the study's model")
    checkpoint = opening.checkpoint(directory, setup.settings.tokenizer)
    return start_step(bench.values, checkpoint, bench.start.arguments)


def _similarity(agenda: Agenda, setup: Setup) -> None:
    """How alike the aligned model represents the same prompts in two languages."""
    parallel, where = by_id(setup.data.prompts), "config.shared.similarity"
    if len(setup.languages) < 2:
        return
    if not inputs.parallel(setup.settings.data.prompts):
        agenda.skip(
            where,
            "prompts of one id are not known to be translations (?by=id of the prompts says so)",
        )
        return
    if len(parallel) < representations.TEXTS:
        agenda.skip(where, f"{len(parallel)} prompts are there in every language")
        return
    prompts = {language: [row[language] for row in parallel] for language in setup.languages}
    find(
        agenda,
        setup,
        "similarity",
        "aligned",
        tables.similarity,
        setup.bench.start,
        decoder=setup.bench.decoder,
        prompts=prompts,
    )


def by_id(prompts: Sequence[Example]) -> list[dict[str, Example]]:
    """Prompts that are there in every language under one id, by language."""
    languages = {prompt.language for prompt in prompts}
    found: dict[tuple[str, str], dict[str, Example]] = {}
    for prompt in prompts:
        found.setdefault((prompt.kind, prompt.id), {})[prompt.language] = prompt
    return [row for row in found.values() if set(row) == languages]
