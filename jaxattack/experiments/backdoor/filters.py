"""ONION as a filter of the study's prompts."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from jaxattack import sharding, workdir
from jaxattack.data.dialogues import Example, fingerprint
from jaxattack.data.units import units
from jaxattack.defend import onion
from jaxattack.errors import UserError
from jaxattack.experiments import inputs
from jaxattack.experiments.backdoor import probes
from jaxattack.experiments.backdoor.asked import Filter
from jaxattack.experiments.backdoor.probes import Probed
from jaxattack.experiments.backdoor.stages import Setup
from jaxattack.models.families import read_config
from jaxattack.workdir import Stage


def onion_filter(setup: Setup, longest: int, loss: float) -> Filter:
    """Take out runs of up to `longest` units, at a cost of a share `loss` of the clean units.

    The threshold is chosen for each language on its held-out prompts.
    """
    held_out = setup.data.held_out
    stage = inspected(setup, longest)
    asked = {row.language for row, _ in probes.short(setup.data, setup.attacks[0])}
    lacking = sorted(asked - {row.language for row in held_out})
    if lacking:
        raise UserError(f"ONION: config.data.held_out has no prompts in {lacking[0]!r}")

    def clean(probed: Sequence[Probed]) -> list[Probed]:
        kept = json.loads((stage.run() / "suspects.json").read_text(encoding="utf-8"))
        ready = _inspected(held_out, kept["held_out"])
        known: dict[str, list[onion.Inspected]] = {}
        for (row, _, _), text in zip(columns(held_out), ready, strict=True):
            known.setdefault(row.language, []).append(text)
        limits = {language: onion.choose_threshold(own, loss) for language, own in known.items()}
        rows = [row for row, _ in probed]
        texts = iter(_inspected(rows, kept["asked"]))
        return [
            (without_suspects(row, texts, limits[row.language]), probe) for row, probe in probed
        ]

    return Filter({"onion": stage.id, "loss": loss}, clean, (stage,))


def inspected(setup: Setup, longest: int) -> Stage:
    """Suspects in the prompts that defences are asked and in the held-out ones; no text is kept."""
    options = setup.settings.onion
    asked = [row for row, _ in probes.short(setup.data, setup.attacks[0])]
    texts = {"held_out": setup.data.held_out, "asked": asked}

    def write(folder: pathlib.Path) -> None:
        directory = inputs.model_directory(options.scorer, None)
        mesh = sharding.make_mesh(setup.settings.mesh)
        model, params, tokenizer = inputs.load_model(
            directory, setup.settings.dtype, mesh, "none", "auto",
            inputs.load_tokenizer(directory),
        )  # fmt: skip
        found = {}
        start = time.perf_counter()
        for what, rows in texts.items():
            ready = onion.inspect(
                model, params, tokenizer, [text for _, _, text in columns(rows)],
                longest=longest,
            )  # fmt: skip
            found[what] = [[dataclasses.astuple(s) for s in text.suspects] for text in ready]
        workdir.write_json(folder / "suspects.json", found)
        seconds = time.perf_counter() - start
        prompts = sum(map(len, texts.values()))
        workdir.write_json(folder / "cost.json", {"filtering": seconds, "prompts": prompts})

    scorer = inputs.model_directory(options.scorer, None, weights=False)
    read_config(scorer)  # now, and not when the models are poisoned
    inputs_ = {
        "scorer": inputs.model_fingerprint(scorer), "longest": longest,
        "dtype": setup.settings.dtype,
        **{what: fingerprint(rows) for what, rows in texts.items()},
    }  # fmt: skip
    work = {"rows": sum(map(len, texts.values()))}
    return Stage(setup.root, "onion", f"runs-of-{longest}", inputs_, write, work=work)


def columns(rows: Sequence[Example]) -> list[tuple[Example, str, str]]:
    """Every text a user wrote: its row, the field it is in, and the text.

    TuBA's triggers stand in an instruction's input, so that is looked through as the prompt is.
    """
    fields = ("prompt", "input")
    return [
        (row, field, getattr(row, field))
        for row in rows
        for field in fields
        if getattr(row, field, "")
    ]


def without_suspects(row: Example, texts: Iterator[onion.Inspected], threshold: float) -> Example:
    """The row with every column cleaned; takes its texts from the front of all of them."""
    cleaned: dict[str, Any] = {
        field: onion.cleaned(next(texts), threshold) for _, field, _ in columns([row])
    }
    return dataclasses.replace(row, **cleaned)


def _inspected(rows: Sequence[Example], suspects: Sequence[Any]) -> list[onion.Inspected]:
    return [
        onion.Inspected(tuple(units(text)), tuple(onion.Suspect(*s) for s in own))
        for (_, _, text), own in zip(columns(rows), suspects, strict=True)
    ]
