"""Repairs that compute with the model, as steps: SafeDelta's moments, gradient rollback."""

from __future__ import annotations

from jaxattack.defend import rollback, safedelta
from jaxattack.experiments import tuning
from jaxattack.experiments.attacking import BENIGN
from jaxattack.experiments.bench import Bench, Decoder, Stored
from jaxattack.experiments.durability.before import named
from jaxattack.experiments.durability.setup import REFUSED, Setup, held, seen
from jaxattack.experiments.durability.shield import Tried
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Input, Step
from jaxattack.tree import Tree


def moments(bench: Bench, seen: Seen, label: str) -> Step:
    """Second moments of what the aligned model's matrices multiply on pairs, to be."""
    arguments = {"start": bench.start, "decoder": bench.decoder, "seen": seen}
    return Step(second_moments, arguments, bench.values, often=True)


def second_moments(start: Input, decoder: Decoder, seen: Seen) -> Tree:
    """These moments."""
    return safedelta.second_moments(decoder.model, start(), seen.batches(decoder.tokenizer))


def rolled(
    tuned: Input,
    start: Input,
    decoder: Decoder,
    refused: Seen,
    benign: Seen,
    plan: rollback.Plan,
    dtype: str,
    label: str,
) -> tuning.Tuned:
    """Weights after gradient rollback.

    Args:
        tuned: where it begins.
        start: weights that go back go there.
        decoder: the model without them, and its tokenizer.
        refused: pairs whose states should be the start's.
        benign: pairs whose states should be the tuned model's.
        plan: how much goes back.
        dtype: in which states are computed.
        label: what the progress bar says.
    """
    found, history = rollback.rolled_back(
        decoder.model,
        tuned(),
        start(),
        refused.rows(decoder.tokenizer),
        benign.rows(decoder.tokenizer),
        plan,
        label,
        dtype,
    )
    losses = {name: [float(value) for value in values] for name, values in history.items()}
    return tuning.Tuned(found, losses, {})


def rolled_back(setup: Setup, tried: Tried, tuned: Step) -> Step:
    """The same, to be."""
    bench = setup.bench
    arguments = {
        "tuned": tuned,
        "start": bench.start,
        "decoder": bench.decoder,
        "refused": seen(setup, held(setup, REFUSED, tried.languages)),
        "benign": seen(setup, held(setup, BENIGN, tried.languages)),
        "plan": rollback.Plan(tried.strength or 0.0, setup.settings.after.steps),
        "dtype": bench.dtype,
    }
    label = f"{named(setup, tried)}@{tried.strength:g}-s{tried.seed}"
    shelf = bench.shelf("rolled", label, tuning.save, Stored("params", bench.like, "float32"))
    return Step(rolled, arguments, bench.values, shelf, label=f"rolled {label}")
