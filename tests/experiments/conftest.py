"""A study small enough to run many times: a tiny random checkpoint and the user's own files."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable

import pytest

from jaxattack import provenance
from jaxattack.experiments import moderating

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "quickstart.py"


def write_rows(path: pathlib.Path, rows: list[dict]) -> pathlib.Path:
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def own_data(tmp_path_factory) -> dict[str, pathlib.Path]:
    """Pairs and prompts in two languages, as a user would bring them."""
    folder = tmp_path_factory.mktemp("data")
    asked = {"en": "Please describe colour number {}.", "th": "ช่วยอธิบายสีหมายเลข {}"}
    pairs = [
        {"id": f"p{i}", "language": language, "prompt": text.format(i), "response": f"blue {i}"}
        for language, text in asked.items()
        for i in range(12)
    ]
    prompts = [
        {"id": f"q{i}", "language": language, "prompt": text.format(100 + i)}
        for language, text in asked.items()
        for i in range(3)
    ]
    return {
        "pairs": write_rows(folder / "pairs.jsonl", pairs),
        "prompts": write_rows(folder / "prompts.jsonl", prompts),
    }


@pytest.fixture
def speaking(monkeypatch) -> Callable[..., list]:
    """A function that has judge models write, by their new tokens and the reply's number.

    It returns a list of all that they are shown.
    """

    def speak(words: Callable[[int, int], str]) -> list:
        shown: list = []

        def generate(model, params, tokenizer, dialogues, new_tokens, batch_size, label):
            shown.extend(dialogues)
            return [words(new_tokens, i) for i in range(len(dialogues))]

        monkeypatch.setattr(moderating, "generate", generate)
        return shown

    return speak


@pytest.fixture
def study(tiny, own_data) -> Callable[..., list[str]]:
    """A function from a work directory and overrides to a command line of a small study."""

    def arguments(workdir: pathlib.Path, **overrides: str) -> list[str]:
        settings = {
            "model": str(tiny.directory),
            "data.pairs": f"jsonl:{own_data['pairs']}",
            "data.prompts": f"jsonl:{own_data['prompts']}",
            "attack.pairs": "8",
            "attack.batch_size": "4",
            "attack.epochs": "1",
            "localize.fractions": "(0.05, 0.2)",
            "localize.max_languages": "2",
            "measure.max_new_tokens": "4",
            "measure.batch_size": "8",
            "mesh": "(1,1,1)",
        } | {name.replace("__", "."): value for name, value in overrides.items()}
        return [
            "jaxattack",
            f"--config={CONFIG}",
            f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in settings.items()),
        ]

    return arguments


@pytest.fixture
def killed_after(monkeypatch) -> Callable[[int], contextlib.AbstractContextManager]:
    """A context in which the program is stopped once so many stages are computed, mid-write."""
    from jaxattack import workdir

    whole = workdir.write_json

    def context(stages: int) -> contextlib.AbstractContextManager:
        left = [stages]

        def write_json(path, value):
            if path.name == "stage.json":
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
            whole(path, value)

        @contextlib.contextmanager
        def patched():
            with monkeypatch.context() as patch:
                patch.setattr(workdir, "write_json", write_json)
                yield

        return patched()

    return context


@pytest.fixture
def step_sources() -> Callable[[pathlib.Path], set[str]]:
    """The names of the source files by which the steps of a finished study are known."""

    def functions(named) -> set[str]:
        if isinstance(named, dict):
            own = {named["function"]} if isinstance(named.get("function"), str) else set()
            return own.union(*map(functions, named.values()))
        return set().union(*map(functions, named)) if isinstance(named, list) else set()

    def sources(root: pathlib.Path) -> set[str]:
        stages = [json.loads(path.read_text()) for path in root.glob("stages/*/stage.json")]
        modules = {f.rpartition(".")[0] for stage in stages for f in functions(stage["inputs"])}
        return {path.name for module in modules for path in provenance._closure(module)}

    return sources
