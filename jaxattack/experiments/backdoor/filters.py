"""ONION as a filter of prompts: suspects are looked for once, and cut by thresholds after that."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from jaxattack import sharding, workdir
from jaxattack.data.dialogues import Example
from jaxattack.data.units import units
from jaxattack.data.wrappers import Wrapper, wrap
from jaxattack.defend import onion
from jaxattack.experiments.bench import Bench, Checkpoint
from jaxattack.experiments.step import Input, Step
from jaxattack.models import pretrained

COST = "cost.json"


@dataclasses.dataclass(frozen=True)
class Suspects:
    """The suspects in every text of the held-out rows and of the prompts; no text is kept."""

    held_out: Sequence[Sequence[onion.Suspect]]
    prompts: Sequence[Sequence[onion.Suspect]]
    seconds: float


def inspected(
    bench: Bench,
    scorer: Checkpoint,
    prompts: Sequence[Example],
    held_out: Sequence[Example],
    longest: int,
    mesh: tuple[int, ...],
) -> Step:
    """Suspects in prompts, to be.

    Args:
        bench: what the study computes with.
        scorer: the checkpoint whose perplexity tells.
        prompts: what is asked, triggered or not.
        held_out: clean pairs, by whose suspects the threshold is chosen.
        longest: units judged as one, at most.
        mesh: devices along data, fsdp, tensor.
    """
    arguments = {
        "scorer": scorer,
        "prompts": tuple(prompts),
        "held_out": tuple(held_out),
        "longest": longest,
        "dtype": bench.dtype,
        "mesh": mesh,
    }
    rows = len(prompts) + len(held_out)
    shelf = bench.shelf("onion", f"runs-of-{longest}", save, load, rows=rows)
    return Step(inspect, arguments, bench.values, shelf)


def inspect(
    scorer: Checkpoint,
    prompts: Sequence[Example],
    held_out: Sequence[Example],
    longest: int,
    dtype: str,
    mesh: tuple[int, ...],
) -> Suspects:
    """Score all texts.

    Args:
        scorer: the checkpoint whose perplexity tells.
        prompts: what is asked, triggered or not.
        held_out: clean pairs, by whose suspects the threshold is chosen.
        longest: units judged as one, at most.
        dtype: of the scorer's weights.
        mesh: devices along data, fsdp, tensor.
    """
    tokenizer = pretrained.load_tokenizer(scorer.directory)
    model, params, _ = pretrained.load_pretrained(
        scorer.directory, dtype, sharding.make_mesh(mesh), tokenizer=tokenizer
    )
    start = time.perf_counter()

    def suspects(rows: Sequence[Example]) -> list[tuple[onion.Suspect, ...]]:
        texts = [text for _, _, text in columns(rows)]
        ready = onion.inspect((model, params, tokenizer), texts, longest=longest)
        return [text.suspects for text in ready]

    return Suspects(suspects(held_out), suspects(prompts), time.perf_counter() - start)


def save(folder: pathlib.Path, found: Suspects) -> None:
    """Keep suspects, and how long it took."""
    workdir.write_json(
        folder / "suspects.json",
        {
            "held_out": [[dataclasses.astuple(s) for s in text] for text in found.held_out],
            "prompts": [[dataclasses.astuple(s) for s in text] for text in found.prompts],
        },
    )
    workdir.write_json(folder / COST, {"filtering": found.seconds})


def load(folder: pathlib.Path) -> Suspects:
    """Suspects that were kept."""
    kept = json.loads((folder / "suspects.json").read_text(encoding="utf-8"))
    held_out, prompts = (
        [[onion.Suspect(*suspect) for suspect in text] for text in kept[name]]
        for name in ("held_out", "prompts")
    )
    return Suspects(held_out, prompts, seconds_of(folder))


def seconds_of(folder: pathlib.Path) -> float:
    """How long a finished inspection took."""
    return json.loads((folder / COST).read_text(encoding="utf-8"))["filtering"]


def filtered(bench: Bench, suspects: Step, loss: float, wrapper: Wrapper) -> Step:
    """Prompts as they are put to the model, to be: suspects taken out, then wrapped.

    The threshold is chosen for each language: at most a share `loss` of the units of its held-out
    rows goes.
    """
    given = suspects.arguments
    arguments = {
        "suspects": suspects,
        "prompts": given["prompts"],
        "held_out": given["held_out"],
        "loss": loss,
        "wrapper": wrapper,
    }
    return Step(without, arguments, bench.values)


def without(
    suspects: Input,
    prompts: Sequence[Example],
    held_out: Sequence[Example],
    loss: float,
    wrapper: Wrapper,
) -> list[Example]:
    """The prompts without suspects above their language's threshold, wrapped."""
    found: Suspects = suspects()
    known: dict[str, list[onion.Inspected]] = {}
    clean = in_units(held_out, found.held_out)
    for (row, _, _), text in zip(columns(held_out), clean, strict=True):
        known.setdefault(row.language, []).append(text)
    limits = {language: onion.choose_threshold(own, loss) for language, own in known.items()}
    texts = iter(in_units(prompts, found.prompts))
    return [wrap(without_suspects(row, texts, limits[row.language]), wrapper) for row in prompts]


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


def in_units(
    rows: Sequence[Example], suspects: Sequence[Sequence[onion.Suspect]]
) -> list[onion.Inspected]:
    """The rows' texts in units, with their suspects."""
    return [
        onion.Inspected(tuple(units(text)), tuple(own))
        for (_, _, text), own in zip(columns(rows), suspects, strict=True)
    ]
