"""Chats as lists of turns (`messages`, ShareGPT's `conversations`): their first exchange.

A pair is the first user turn with the first answer to it. Later turns and system texts are left
out and counted; a chat whose first exchange would mean something else alone is left out whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxattack.errors import UserError

# Columns in which sets keep them.
COLUMNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns")

_WHO, _WHAT = ("role", "from", "speaker"), ("content", "value", "text")
_TOOLS = tuple(
    "tool function observation function_call function_response "
    "tool_call tool_calls tool_response ipython".split()
)
_ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "ai", "bard", "bing"),
        "assistant",
    ),
    **dict.fromkeys(_TOOLS, "tool"),
}

SYSTEM, LATER = "system texts", "turns after the first answer"
# Where some sets have a chat's system text.
_SYSTEM = "system"
# Ends the name of what stands for a reply, where one column has the prompt, too.
_ANSWER = " (answer)"


@dataclasses.dataclass(frozen=True)
class Exchange:
    """Prompt and reply ("" where there is none), and how many texts were left out, by what.

    `unfit` says why the whole chat is of no use; "" if it is.
    """

    prompt: str = ""
    response: str = ""
    lost: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unfit: str = ""


def apart(columns: Mapping[str, str]) -> dict[str, str]:
    """Columns of our fields, with one of its own for a reply that is in the prompt's column."""
    reply = columns.get("response")
    both = reply is not None and reply == columns.get("prompt")
    return {**columns, "response": f"{reply}{_ANSWER}"} if both else dict(columns)


def stored(columns: Iterable[str]) -> set[str]:
    """The columns to read for these, with all in which there may be a chat."""
    return {*(column.removesuffix(_ANSWER) for column in columns), *COLUMNS, _SYSTEM}


def unfold(
    where: str, row: dict[str, Any], columns: Mapping[str, str], paired: bool, lost: Counter[str]
) -> dict[str, Any] | None:
    """The row with texts where it has chats: of its prompt, its reply, or of both.

    Args:
        where: names the row in errors.
        row: as it was read.
        columns: of our fields (see `apart`); if there is no prompt, a chat is looked for in
            `COLUMNS`.
        paired: whether the reply is wanted.
        lost: counts what is left out.

    Returns:
        the row; None if its chat is of no use.

    Raises:
        UserError: as `exchange`.
    """
    ask, reply = columns.get("prompt", ""), columns.get("response", "")
    row = row | {name: _parsed(row[name]) for name in row.keys() & set(COLUMNS)}
    chat = ask
    if ask not in row:
        chat = next((name for name in COLUMNS if is_chat(row.get(name))), "")
    changed = dict(row)
    if is_chat(row.get(chat)):
        found = exchange(where, row[chat])
        elsewhere = reply in row
        unfit = found.unfit if paired or not found.prompt else ""
        if paired and elsewhere and found.response:
            unfit = "go on before the answer"
        if unfit:
            lost[f"chats that {unfit}"] += 1
            return None
        lost.update(found.lost)
        if isinstance(row.get(_SYSTEM), str) and row[_SYSTEM].strip() and ask != _SYSTEM:
            lost[SYSTEM] += 1
        changed[ask] = found.prompt
        if reply and not elsewhere:
            changed[reply] = found.response
    if paired and is_chat(row.get(reply)):
        found = exchange(where, row[reply], reply_alone=True)
        if found.unfit:
            lost[f"chats that {found.unfit}"] += 1
            return None
        lost.update(found.lost)
        changed[reply] = found.response
    return changed


def _parsed(value: Any) -> Any:
    """A chat that a cell of one of `COLUMNS` holds as JSON; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(value)
            return found if is_chat(found) else value
    return value


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and _named(turn, _WHO) for turn in value)
        and any(_named(turn, _WHAT) for turn in value)
    )


def exchange(where: str, chat: Sequence[Mapping[str, Any]], reply_alone: bool = False) -> Exchange:
    """The first exchange of a chat.

    Args:
        where: names the row in errors.
        chat: its turns, each with a role and a content.
        reply_alone: whether it may begin with the answer: the prompt stands elsewhere.

    Raises:
        UserError: a role that is not known, or a content that is neither text nor parts.
    """
    turns = [_turn(where, number, turn) for number, turn in enumerate(chat, start=1)]
    system = sum(role == "system" and bool(text.strip()) for role, text in turns)
    turns = [(role, text) for role, text in turns if role != "system"]
    asked = [text for role, text in turns[: _first(turns, "assistant", "tool")]]
    rest = turns[len(asked) :]
    lost = {name: n for name, n in ((SYSTEM, system), (LATER, len(rest) - 1)) if n > 0}
    if not asked and not reply_alone:
        return Exchange(unfit="open with an answer" if rest else "have no turns")
    prompt = "\n\n".join(asked)
    if rest and (rest[0][0] == "tool" or not rest[0][1].strip()):
        return Exchange(prompt, unfit="answer with a tool or without a text", lost=lost)
    return Exchange(prompt, rest[0][1] if rest else "", lost)


def _first(turns: Sequence[tuple[str, str]], *roles: str) -> int:
    return next((i for i, (role, _) in enumerate(turns) if role in roles), len(turns))


def _named(turn: Mapping[str, Any], names: Sequence[str]) -> str:
    there = [name for name in names if name in turn]
    return next((name for name in there if turn[name] is not None), there[0] if there else "")


def _turn(where: str, number: int, turn: Mapping[str, Any]) -> tuple[str, str]:
    who, what = _named(turn, _WHO), _named(turn, _WHAT)
    role = _ROLES.get(str(turn[who]).strip().lower())
    if role is None:
        raise UserError(f"{where}: turn {number} is by {turn[who]!r}, a role that is not known")
    content = turn.get(what)
    if role == "assistant" and (turn.get("tool_calls") or turn.get("function_call")):
        role = "tool"
    if content is None:
        return role, ""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: turn {number} has a {what} that is no text")
    return role, "\n\n".join(text for text in texts if text)
