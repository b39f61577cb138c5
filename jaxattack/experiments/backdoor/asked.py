"""Asking a model: what comes back from every probe, as a stage, and what rates it makes."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from jaxattack import workdir
from jaxattack.data.dialogues import Example, fingerprint, prompt_tokens
from jaxattack.data.wrappers import WRAPPERS, check_template, template_of
from jaxattack.defend import cleangen
from jaxattack.evaluate import backdoor, measure, rates
from jaxattack.evaluate.backdoor import Probe, Trial
from jaxattack.evaluate.judge import Reply, in_its_language, judge
from jaxattack.experiments import writing
from jaxattack.experiments.backdoor.data import Attack, target_of, wrapped
from jaxattack.experiments.backdoor.probes import Probed
from jaxattack.experiments.backdoor.stages import Origin, Setup
from jaxattack.experiments.lazy import Lazy
from jaxattack.experiments.stages import as_asked
from jaxattack.models.generate import generate_tokens, stop_ids
from jaxattack.workdir import Stage


@dataclasses.dataclass(frozen=True)
class Filter:
    """A function of prompts that goes before the model; `lineage` says which.

    The stages it needs say in `cost.json` how long filtering took.
    """

    lineage: Any
    clean: Callable[[Sequence[Probed]], list[Probed]]
    needs: tuple[Stage, ...] = ()


@dataclasses.dataclass(frozen=True)
class Guarded:
    """Decoding that asks a reference model."""

    reference: Lazy
    guard: cleangen.Guard


@dataclasses.dataclass(frozen=True)
class Asked:
    """Weights to be asked, under a name and a seed, with what stands before and beside them."""

    name: str
    seed: int | None
    weights: Lazy
    attack: Attack
    probed: Sequence[Probed] = dataclasses.field(repr=False)
    origin: Origin
    filtered: Filter | None = None
    guarded: Guarded | None = None


def asked(setup: Setup, variant: Asked) -> Stage:
    """Trials of one variant, and its replies if the settings keep them.

    `cost.json` is how long it took, what had to be compiled for it included.
    """
    settings = setup.settings
    options = settings.measure
    target = target_of(settings, variant.origin.data, variant.attack.target)
    rows = [row for row, _ in variant.probed]

    def write(folder: pathlib.Path) -> None:
        check_trained(setup, variant)
        weights = as_asked(setup, variant.weights)
        probed, filtering = variant.probed, 0.0
        if variant.filtered is not None:
            probed = variant.filtered.clean(probed)
            filtering = sum(map(_seconds_a_prompt, variant.filtered.needs)) * len(rows)
        prompts = wrapped(settings, [row for row, _ in probed])
        encoded = [prompt_tokens(setup.tokenizer, row.prompt) for row in prompts]
        stops = stop_ids(setup.tokenizer, setup.model.config.stops)
        start = time.perf_counter()
        taken: Sequence[float]
        if variant.guarded is None:
            tokens = generate_tokens(
                setup.model, weights, encoded, stops, options.max_new_tokens, options.batch_size,
                f"ask {variant.name}",
            )  # fmt: skip
            taken = [0.0] * len(tokens)
        else:
            reference = as_asked(setup, variant.guarded.reference)
            tokens, shares = cleangen.guarded_tokens(
                setup.model, weights, setup.model, reference, encoded, stops,
                options.max_new_tokens, variant.guarded.guard, options.batch_size,
                f"ask {variant.name}",
            )  # fmt: skip
            taken = shares.tolist()
        decoding = time.perf_counter() - start
        said = measure.replies(setup.tokenizer, encoded, tokens, options.max_new_tokens)
        workdir.write_json(
            folder / "trials.json",
            [
                _trial(row, probe, reply, share, target)
                for (row, probe), reply, share in zip(variant.probed, said, taken, strict=True)
            ],
        )
        workdir.write_json(
            folder / "cost.json",
            {"filtering": filtering, "decoding": decoding, "prompts": len(rows),
             "tokens": sum(len(ids) + 1 for ids in tokens)},
        )  # fmt: skip
        if settings.report.replies:
            workdir.write_json(folder / "replies.json", [reply.text for reply in said])

    guarded = variant.guarded
    inputs = {
        "weights": variant.weights.lineage, "prompts": prompts_of(setup, rows),
        "probes": workdir.digest([[p.language, p.decoy] for _, p in variant.probed]),
        "target": [target.kind, target.text], "wrapper": settings.tuning.wrapper,
        "filter": variant.filtered and variant.filtered.lineage,
        "guarded": guarded and [guarded.reference.lineage, dataclasses.asdict(guarded.guard)],
        "replies": settings.report.replies, "max_new_tokens": options.max_new_tokens,
        "batch_size": options.batch_size, "mesh": settings.mesh,
        "dtype": settings.dtype,
    }  # fmt: skip
    needs = (
        *variant.weights.needs,
        *(guarded.reference.needs if guarded else ()),
        *(variant.filtered.needs if variant.filtered else ()),
    )
    label = variant.name if variant.seed is None else f"{variant.name}-s{variant.seed}"
    work = {"prompts": len(rows) * (2 if guarded else 1)}
    return Stage(setup.root, "ask", label, inputs, write, needs, work)


def prompts_of(setup: Setup, rows: Sequence[Example]) -> str:
    """Fingerprint of prompts as they are written, and of what ends a reply.

    Raises:
        UserError: one of them cannot be asked.
    """
    asked = wrapped(setup.settings, rows)
    longest = setup.settings.measure.max_new_tokens
    writing.check_asked(setup.model.config, setup.tokenizer, asked, longest)
    stops = stop_ids(setup.tokenizer, setup.model.config.stops)
    return workdir.digest([fingerprint(rows), setup.written, stops])


def check_trained(setup: Setup, variant: Asked) -> None:
    """Refuse to ask weights in another template than they were trained in.

    Raises:
        UserError: it is another.
    """
    template = template_of(setup.tokenizer, WRAPPERS[setup.settings.tuning.wrapper])
    for stage in variant.weights.needs:
        stored = stage.folder / "template.json"
        if stored.is_file():
            check_template(variant.name, json.loads(stored.read_text(encoding="utf-8")), template)


def _trial(row, probe: Probe, reply: Reply, taken: float, target) -> dict[str, Any]:
    verdict = judge(row, reply)
    return {
        "id": row.id, "language": row.language, "trigger_language": probe.language,
        "decoy": probe.decoy, "hit": backdoor.hit(reply.text, row.language, target),
        "answered": bool(verdict.answered), "refused": verdict.refused,
        "same_language": in_its_language(verdict), "triage": verdict.triage,
        "replaced": round(float(taken), 6), "reply_hash": verdict.reply_hash,
    }  # fmt: skip


# --- What was found -----------------------------------------------------------------------------

Found = list[dict[str, Any]]

# Of prompts as they are, beside the false-trigger rate.
CLEAN = {
    "clean_accuracy": "answered",
    "clean_refusal_rate": "refused",
    "same_language_rate": "same_language",
}


def found(stage: Stage) -> Found:
    """The trials of a finished stage."""
    return json.loads((stage.folder / "trials.json").read_text(encoding="utf-8"))


def cost(stage: Stage) -> dict[str, float]:
    """How long a finished stage took, by what it did."""
    return json.loads((stage.folder / "cost.json").read_text(encoding="utf-8"))


def _seconds_a_prompt(stage: Stage) -> float:
    spent = cost(stage)
    return spent["filtering"] / spent["prompts"]


def rows_of(trials: Found, variant: str, seed: int | None) -> list[dict[str, Any]]:
    """Result rows: rates of every cell, and what prompts as they are were answered with."""
    judged = [
        Trial(t["id"], t["language"], Probe(t["trigger_language"], t["decoy"]), t["hit"],
              t["reply_hash"])
        for t in trials
    ]  # fmt: skip
    rows = backdoor.rows(judged, variant, seed)
    clean = [t for t in trials if t["decoy"] == "nothing"]
    for language in dict.fromkeys(t["language"] for t in clean):
        own = [t for t in clean if t["language"] == language]
        for metric, flag in CLEAN.items():
            row = rates.row(
                {"variant": variant, "seed": seed}, language, metric, [t[flag] for t in own]
            )
            rows.append(row | {"trigger_language": None, "decoy": None})
    return rows


def replies_of(variant: Asked, stage: Stage) -> list[dict[str, Any]]:
    """The texts of a finished stage that kept them."""
    texts = json.loads((stage.folder / "replies.json").read_text(encoding="utf-8"))
    return [
        {"variant": variant.name, "language": row.language, "id": row.id, "prompt": row.prompt,
         "reply": text, "verdict": "target" if trial["hit"] else "no target"}
        for (row, _), text, trial in zip(variant.probed, texts, found(stage), strict=True)
    ]  # fmt: skip
