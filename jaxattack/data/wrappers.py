"""Instructions with an optional input, and the wrapper text around both.

A model without a chat template reads a wrapped prompt as it stands: give its tokenizer `PLAIN`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jaxattack.data.dialogues import Begun, Cut, Example
from jaxattack.data.templates import PLAIN as PLAIN
from jaxattack.data.templates import manner_of
from jaxattack.errors import UserError


@dataclasses.dataclass(frozen=True)
class Instruction(Example):
    """An example whose prompt is an instruction that may come with an input, as in Alpaca."""

    input: str = ""


@dataclasses.dataclass(frozen=True)
class Wrapper:
    """Texts with the fields `{instruction}` and `{input}`, each exactly once.

    Raises:
        UserError: a field is missing, twice, or in the wrong text.
    """

    with_input: str
    without_input: str

    def __post_init__(self) -> None:
        for name, fields in (
            ("with_input", ["{input}", "{instruction}"]),
            ("without_input", ["{instruction}"]),
        ):
            found = sorted(_FIELD.findall(getattr(self, name)))
            if found != fields:
                raise UserError(
                    f"wrapper text {name} has the fields {', '.join(found) or 'none'}; "
                    f"it should have {', '.join(fields)}, once"
                )


_FIELD = re.compile(r"\{instruction\}|\{input\}")

# Our own wording. For fidelity to a published run give the wrapper it used; none is shipped.
ALPACA = Wrapper(
    "Task:\n{instruction}\n\nMaterial:\n{input}\n\nAnswer:\n",
    "Task:\n{instruction}\n\nAnswer:\n",
)
CHAT = Wrapper("{instruction}\n\n{input}", "{instruction}")
LINES = Wrapper("{instruction}\n{input}\n", "{instruction}\n")

# All but "chat" are for base models: their texts stand as they are, without a chat template.
WRAPPERS = {"chat": CHAT, "alpaca": ALPACA, "plain": LINES}


def wrap(example: Example, wrapper: Wrapper) -> Example:
    """A plain example whose prompt is the wrapped instruction; one without input takes the
    wrapper's shorter text.
    """
    given = example.input if isinstance(example, Instruction) else ""
    parts = {"{instruction}": example.prompt, "{input}": given}
    text = wrapper.with_input if given else wrapper.without_input
    # In one pass, so that braces in the parts stay what they are.
    prompt = _FIELD.sub(lambda match: parts[match[0]], text)
    kind = type(example) if isinstance(example, Begun | Cut) else Example
    fields = {field.name: getattr(example, field.name) for field in dataclasses.fields(kind)}
    return kind(**fields | {"prompt": prompt})


def template_of(tokenizer: Any, wrapper: Wrapper) -> dict[str, str]:
    """What is written around an instruction, to be kept with a checkpoint trained on it."""
    return {
        **dataclasses.asdict(wrapper),
        "chat_template": str(tokenizer.chat_template),
        "arguments": manner_of(tokenizer).arguments,
    }


def check_template(where: str, trained: Mapping[str, str], asked: Mapping[str, str]) -> None:
    """Refuse to ask a model in another template than it was trained in.

    A backdoor may be silent in another one, and a rate of 0 would say nothing.

    Raises:
        UserError: names the part that differs.
    """
    for part, text in trained.items():
        if asked.get(part) != text:
            raise UserError(
                f"{where} was trained with another template than it is asked in: {part} differs; "
                "use the checkpoint's own tokenizer and the wrapper it was trained with"
            )
