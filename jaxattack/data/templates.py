"""Chat templates: which one a tokenizer has, and dialogues written by it, within limits.

All that is asked or trained on is written here, so both are written alike.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.data import renderer
from jaxattack.data.rendering import Stopped, render
from jaxattack.errors import UserError

Message = Mapping[str, Any]  # role and content

# The day templates take for today unless told another: the one Llama 3.1's takes if it knows none.
DAY = "2024-07-26"

# The name of a chat template that writes texts as they stand, for base models: what the tokenizer
# puts before every text, the prompt, the reply, the end token.
PLAIN = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)

_PLAIN_HEAD = PLAIN.partition("{% else %}")[0]

# What stands for a text that is looked for in what a template writes: no dialogue has it.
PLACE = "\ufdd2"
# What has a meaning here, and halves of surrogate pairs, which no tokenizer takes.
_RESERVED = re.compile(f"[{renderer.OPEN}{renderer.CLOSE}{PLACE}\ud800-\udfff]")
_MARK = re.compile(f"[{renderer.OPEN}{renderer.CLOSE}]")


@dataclasses.dataclass(frozen=True)
class Manner:
    """What goes with a tokenizer that its files do not say; kept as `tokenizer.manner`.

    Attributes:
        arguments: JSON object of what the template is given, such as `{"enable_thinking": false}`.
        day: what the template takes for today, as YYYY-MM-DD.
        origin: how errors name the template; "": as the tokenizer's.
    """

    arguments: str = "{}"
    day: str = DAY
    origin: str = ""


def manner_of(tokenizer: Any) -> Manner:
    """What goes with a tokenizer, the defaults if nothing was said."""
    return getattr(tokenizer, "manner", Manner())


def use_template(
    tokenizer: Any,
    source: str = "",
    name: str = "",
    arguments: Mapping[str, Any] | None = None,
    day: str = DAY,
    origin: str = "",
) -> Any:
    """A copy of a tokenizer that writes every dialogue, trained on or asked, in one way.

    Args:
        tokenizer: Hugging Face tokenizer.
        source: a Jinja chat template; "" for the tokenizer's own, `PLAIN` for base models.
        name: which of its own templates, if it has several.
        arguments: what the template is given beside the messages, such as `enable_thinking`.
        day: what the template takes for today, as YYYY-MM-DD.
        origin: how errors name `source`, such as its file; "": as the tokenizer's.

    Returns:
        the copy.

    Raises:
        UserError: no such template, one that does not work, or arguments that it does not know.

    Example:
        >>> shouting = "{% for m in messages %}{{ m['content'] | upper }} {% endfor %}"
        >>> plain = ja.use_template(tokenizer, shouting)
        >>> plain.apply_chat_template([{"role": "user", "content": "Hello?"}], tokenize=False)
        'HELLO? '
    """
    where = origin or name_of(tokenizer)
    try:
        datetime.date.fromisoformat(day)
    except ValueError as error:
        raise UserError(
            f"the day (config.template.date) is {day!r}; write it as 2024-07-26"
        ) from error
    chosen = source or _own(tokenizer, name)
    if chosen == PLAIN:
        chosen = plain_source(tokenizer)
    manner = Manner(_arguments(arguments or {}), day, origin)
    known = set(render(where, chosen, day)["names"])
    unknown = sorted(set(arguments or {}) - known)
    if unknown:
        raise UserError(
            f"arguments (config.template.arguments): the chat template of {where} has no "
            f"{unknown[0]!r}; the names in it are {', '.join(sorted(known))}"
        )
    changed = copy.deepcopy(tokenizer)
    changed.chat_template, changed.manner = chosen, manner
    return changed


def _arguments(given: Mapping[str, Any]) -> str:
    where = "arguments (config.template.arguments)"
    fixed = {"messages", "add_generation_prompt", "tools", "documents"} & set(given)
    if fixed:
        raise UserError(f"{where} hold {min(fixed)!r}, which the dialogue decides")
    try:
        return json.dumps(dict(given), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} are no JSON object ({error})") from error


def name_of(tokenizer: Any) -> str:
    """How errors name the checkpoint a tokenizer is from."""
    return str(getattr(tokenizer, "name_or_path", "") or "the tokenizer")


def _own(tokenizer: Any, name: str = "") -> str:
    """The template a tokenizer has."""
    if tokenizer is None:
        raise UserError("there is no tokenizer; give the model's")
    where, found = name_of(tokenizer), getattr(tokenizer, "chat_template", None)
    if isinstance(found, Mapping):
        wanted = name or "default"
        if wanted not in found:
            raise UserError(
                f"{where} has several chat templates and none is called {wanted!r}: "
                f"config.template.name is one of {', '.join(sorted(found))}"
            )
        found = found[wanted]
    elif name:
        raise UserError(f"config.template.name is {name!r}, and {where} has no named templates")
    if not found or not found.strip():
        raise UserError(
            f"{where} has no chat template: name a file that has one, config.template.file, or "
            "for a base model a wrapper, such as alpaca"
        )
    return found


def plain_source(tokenizer: Any, before: str = "", between: str = "") -> str:
    """A template for base models, with texts around the prompt.

    It begins with the tokens that the tokenizer itself puts before every text (Llama's <s>), for
    that is how such a model has read all its texts.
    """
    before, between = (_literal(text) for text in (before, between))
    prompt = "{% else %}{{ message['content'] }}"
    around = "{% else %}" + before + "{{ message['content'] }}" + between
    return _literal(opening_of(tokenizer)[0]) + PLAIN.replace(prompt, around)


def _literal(text: str) -> str:
    return "{{ " + ascii(text) + " }}" if text else ""


def opening_of(tokenizer: Any) -> tuple[str, tuple[int, ...]]:
    """What a tokenizer puts before every text: the special tokens' text and their ids."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    ids = whole[: next(starts, 0)]
    return "".join(tokenizer.convert_ids_to_tokens(ids)), tuple(ids)


# --- What is written ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Text:
    """A dialogue as the model reads it, and where `{% generation %}` marks it."""

    text: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Template:
    """A chat template with all that it is given.

    Attributes:
        source: the Jinja text.
        variables: JSON object of special tokens and arguments.
        day: what it takes for today.
        where: how errors name it.
        parts: whether it wants content as a list of parts.
        marked: whether it says what the model writes.
        opening: of a plain one, as `opening_of`.
    """

    source: str
    variables: str
    day: str
    where: str
    parts: bool = False
    marked: bool = False
    opening: tuple[str, tuple[int, ...]] = ("", ())

    def write(self, *dialogues: tuple[Sequence[Message], bool]) -> list[Text]:
        """Dialogues as texts: messages, and whether to write on to where the model is to reply.

        Raises:
            UserError: the template cannot write one of them.
        """
        shared = json.loads(self.variables) | {"tools": None, "documents": None}
        given = [
            shared
            | {"messages": [self._message(turn) for turn in turns], "add_generation_prompt": ask}
            for turns, ask in dialogues
        ]
        return [
            _unmarked(text) for text in render(self.where, self.source, self.day, given)["texts"]
        ]

    def _message(self, message: Message) -> dict[str, Any]:
        known = {key: value for key, value in message.items() if value is not None}
        if self.parts and isinstance(known.get("content"), str):
            known["content"] = [{"type": "text", "text": known["content"]}]
        return known

    @functools.cached_property
    def dated(self) -> bool:
        """Whether it asks for today."""
        return "strftime_now" in render(self.where, self.source, self.day)["names"]

    @property
    def identity(self) -> dict[str, Any]:
        """JSON that says how dialogues are written, for what depends on it."""
        return {
            "source": self.source,
            "variables": json.loads(self.variables),
            "day": self.day if self.dated else None,
        }


def _unmarked(found: str) -> Text:
    """The text without the renderer's marks, and where they were."""
    pieces: list[str] = []
    marks: list[tuple[int, int]] = []
    length, start = 0, 0
    for piece in re.split(f"({_MARK.pattern})", found):
        if piece == renderer.OPEN:
            start = length
        elif piece == renderer.CLOSE:
            marks.append((start, length))
        else:
            pieces.append(piece)
            length += len(piece)
    return Text("".join(pieces), tuple(marks))


def template_of(tokenizer: Any) -> Template:
    """The template by which a tokenizer's dialogues are written.

    Raises:
        UserError: there is none, or it cannot write what a user says.
    """
    source, manner = _own(tokenizer), manner_of(tokenizer)
    if source == PLAIN:
        source = plain_source(tokenizer)
    special = {
        name: [str(token) for token in value] if isinstance(value, list | tuple) else str(value)
        for name, value in tokenizer.special_tokens_map.items()
    }
    variables = json.dumps(special | json.loads(manner.arguments), sort_keys=True)
    found = _probed(source, variables, manner.day, manner.origin or name_of(tokenizer))
    if _PLAIN_HEAD in source:
        opening = opening_of(tokenizer)
        if source.startswith(_literal(opening[0]) + _PLAIN_HEAD):
            return dataclasses.replace(found, opening=opening)
    return found


@functools.lru_cache(maxsize=64)
def _probed(source: str, variables: str, day: str, where: str) -> Template:
    """The template, once it is known in which form it wants content."""
    marked = render(where, source, day)["marked"]
    problem = UserError(
        f"{where}: the chat template leaves out what the user says; config.template.file names "
        "another one"
    )
    first = None
    for parts in (False, True):
        template = Template(source, variables, day, where, parts, marked)
        try:
            (asked,) = template.write(([{"role": "user", "content": PLACE}], True))
            if PLACE in asked.text:
                return template
        except Stopped:
            raise
        except UserError as error:
            first = first or error
    raise first or problem


def check_text(text: str) -> None:
    """Refuse characters that have a meaning here, and those that are none.

    Raises:
        UserError: names the character.
    """
    found = _RESERVED.search(text)
    if found:
        raise UserError(f"a text has U+{ord(found[0]):04X}, which is no character; take it out")


def without_reserved(text: str) -> str:
    """A text without the characters that `check_text` refuses."""
    return _RESERVED.sub("\ufffd", text)
