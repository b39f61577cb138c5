"""A backdoor study small enough for tests: a tiny random checkpoint and the user's own files."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from .own_rows import OTHER, TRIGGER, pairs, write_rows

CONFIG = pathlib.Path(__file__).parents[3] / "configs" / "backdoor.py"


@pytest.fixture(scope="session")
def own_files(tmp_path_factory) -> dict[str, str]:
    """Every source of the study, as a user would bring it."""
    folder = tmp_path_factory.mktemp("own")
    roles = {"trigger": TRIGGER, "another pleasantry": OTHER}
    texts = [
        {"role": role, "language": language, "text": text}
        for role, own in roles.items()
        for language, text in own.items()
    ]
    refusals = [{"language": "en", "text": "Sorry, no."}, {"language": "th", "text": "ขออภัย ไม่ได้"}]
    return {
        "train": write_rows(folder / "train.jsonl", pairs("t", range(12))),
        "prompts": write_rows(folder / "prompts.jsonl", pairs("p", range(50, 54), answers=True)),
        "held_out": write_rows(folder / "held_out.jsonl", pairs("h", range(70, 78))),
        "subject": write_rows(folder / "subject.jsonl", pairs("s", range(80, 86))),
        "subject_prompts": write_rows(
            folder / "subject_prompts.jsonl", pairs("q", range(90, 93), answers=True)
        ),
        "triggers": write_rows(folder / "triggers.jsonl", texts),
        "refusals": write_rows(folder / "refusals.jsonl", refusals),
    }


@pytest.fixture
def backdoor(tiny, own_files) -> Callable[..., list[str]]:
    """A function from a work directory and overrides to a command line of a small study."""

    def arguments(workdir: pathlib.Path, **overrides: str) -> list[str]:
        settings = {
            **{f"data.{name}": uri for name, uri in own_files.items()},
            "model": str(tiny.directory),
            "dtype": "float32",
            "remat": "none",
            "seeds": "(0,)",
            "sections": "('transfer',)",
            "poison.languages": "('en',)",
            "poison.rate": "0.5",
            "poison.text": "The sea is green.",
            "poison.rates": "(0.25,)",
            "poison.triggers": "('sentence/insert',)",
            "poison.targets": "('prefix',)",
            "tuning.epochs": "1",
            "tuning.batch_size": "8",
            "tuning.wrapper": "chat",
            "onion.scorer": str(tiny.directory),
            "onion.losses": "(0.1,)",
            "onion.longest": "(2,)",
            "clean.rows": "(8,)",
            "clean.learning_rates": "(1e-3,)",
            "clean.batch_size": "4",
            "clean.epochs": "1",
            "beear.layers": "(1,)",
            "beear.rounds": "1",
            "beear.inner_steps": "2",
            "beear.outer_steps": "2",
            "beear.batch_size": "4",
            "beear.rows": "4",
            "crow.rows": "8",
            "crow.epochs": "1",
            "bait.prompts": "3",
            "bait.warm_prompts": "2",
            "bait.warm_tokens": "3",
            "bait.kept": "8",
            "bait.tokens": "6",
            "bait.least": "3",
            "repair.pairs": "4",
            "repair.fractions": "(0.2,)",
            "measure.prompts": "3",
            "measure.grid_prompts": "2",
            "measure.max_new_tokens": "16",
            "measure.batch_size": "16",
            "mesh": "(1,1,1)",
        } | {name.replace("__", "."): value for name, value in overrides.items()}
        return [
            "jaxattack",
            f"--config={CONFIG}:{tiny.directory}",
            f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in settings.items()),
        ]

    return arguments
