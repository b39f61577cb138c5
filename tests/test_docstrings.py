"""The examples in the docstrings run as they stand, and long signatures are explained."""

import ast
import dataclasses
import doctest
import inspect
import pathlib
import re

import numpy as np
import pytest

import jaxattack as ja

PACKAGE = pathlib.Path(ja.__file__).parent
MANY = 6  # parameters from which on each is explained
LONGEST, MOST = 60, 8  # lines of a function, its parameters
CONTRACTS = {  # keyword arguments that research code relies on
    "train/loop.py:finetune",
    "models/generate.py:generate",
    "models/generate.py:generate_tokens",
}


@pytest.fixture(scope="module")
def names(tiny, tmp_path_factory):
    """What the examples take for granted; see the docstring of `jaxattack`."""
    prompts = ("Which sea is warm?", "Who sings?", "What is blue?")
    return {
        "ja": ja,
        "np": np,
        "model": tiny.model,
        "params": tiny.params,
        "attacked": tiny.params | {"embed": tiny.params["embed"] + 0.1},
        "tokenizer": tiny.tokenizer,
        "pairs": [ja.Example(str(i), "en", text, "Blue.") for i, text in enumerate(prompts)],
        "folder": tmp_path_factory.mktemp("examples"),
    }


@pytest.mark.parametrize("name", ja.__all__)
def test_the_example_of_every_public_name_runs(name, names):
    assert all(word in ja.__doc__ for word in set(names) - {"ja", "np"})
    text = inspect.getdoc(getattr(ja, name))
    example = doctest.DocTestParser().get_doctest(text, dict(names), name, None, None)
    assert any(f"ja.{name}" in part.source for part in example.examples)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert not said, "".join(said)


@dataclasses.dataclass(frozen=True)
class Function:
    """A function as its source has it."""

    place: str
    parameters: tuple[str, ...]
    lines: int
    text: str

    @property
    def is_public(self):
        return not self.place.partition(":")[2].startswith("_")


def functions():
    """All functions and methods of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                named = tuple(arg.arg for arg in given if arg.arg not in ("self", "cls"))
                place = f"{path.relative_to(PACKAGE).as_posix()}:{node.name}"
                lines = node.end_lineno - node.lineno + 1
                yield Function(place, named, lines, ast.get_docstring(node) or "")


def explained(text):
    """The parameters that a docstring says something of."""
    _, _, args = text.partition("Args:\n")
    for line in args.splitlines():
        if line and not line.startswith(" "):
            break
        if found := re.match(r"    (\w+(?:, \w+)*): ", line):
            yield from found[1].split(", ")


def test_each_of_many_parameters_is_explained():
    many = [f for f in functions() if f.is_public and len(f.parameters) >= MANY]
    assert len(many) > 20
    left = {f.place: set(f.parameters) - set(explained(f.text)) for f in many}
    assert not {place: names for place, names in left.items() if names}


def test_functions_are_short_and_take_few_parameters():
    assert not [f"{f.place}: {f.lines} lines" for f in functions() if f.lines > LONGEST]
    greedy = {f.place for f in functions() if len(f.parameters) > MOST}
    assert greedy <= CONTRACTS
