"""Tokens of dialogues: what a model is asked, what it should have written, and what ends that."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack.data import templates, thoughts
from jaxattack.data.templates import PLACE, Message, Template
from jaxattack.errors import UserError

Prompt = str | Sequence[Message]
Spanned = tuple[list[int], list[tuple[int, int]]]  # tokens, and where in a text each stands

# How far a tokenizer looks back: texts after which another one is read as if it went on.
_ANCHORS = ("\n", "a", ".", ")")

# --- What is asked ------------------------------------------------------------------------------


def messages_of(prompt: Prompt) -> list[Message]:
    """A user turn, or messages, as messages.

    Raises:
        UserError: it is neither.
    """
    turns: Any = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(turns, Sequence) or not all(isinstance(turn, Mapping) for turn in turns):
        raise UserError(
            "a prompt is a text or a list of messages with role and content, not "
            f"{str(prompt)[:60]!r}"
        )
    for turn in turns:
        if not isinstance(turn.get("role"), str) or not isinstance(turn.get("content"), str | list):
            raise UserError(
                "a message has a role, which is a text, and content, a text or a list of parts"
            )
        if isinstance(turn["content"], str):
            templates.check_text(turn["content"])
    if not turns:
        raise UserError("the prompt is empty: it has no messages")
    return list(turns)


def check_says(prompt: Prompt) -> None:
    """Refuse a prompt that says nothing, though a template may write it.

    Raises:
        UserError: it does not say anything, or is no prompt.
    """
    content = messages_of(prompt)[-1]["content"]
    if not (content.strip() if isinstance(content, str) else content):
        raise UserError("the prompt is empty")


def prompt_text(tokenizer: Any, prompt: Prompt) -> str:
    """A user turn, or messages, as the model reads them, up to where it is to reply.

    Raises:
        UserError: no prompt, or a template that does not write it.
    """
    (asked,) = templates.template_of(tokenizer).write((messages_of(prompt), True))
    return asked.text


def prompt_tokens(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Tokens of `prompt_text`.

    Raises:
        UserError: as `prompt_text`.
    """
    template = templates.template_of(tokenizer)
    (asked,) = template.write((messages_of(prompt), True))
    tokens, _ = _encode(tokenizer, template, asked.text)
    if not tokens:
        raise UserError("the prompt has no tokens")
    return tokens


# --- What is trained on -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Writer:
    """What writes dialogues, looked up once for many of them.

    Attributes:
        tokenizer: Hugging Face tokenizer.
        template: its chat template.
        stops: ids that end a reply.
        size: of its vocabulary, added tokens included.
    """

    tokenizer: Any
    template: Template
    stops: tuple[int, ...]
    size: int


def writer_of(tokenizer: Any) -> Writer:
    """The writer that a tokenizer is, as it is now.

    Raises:
        UserError: it has no chat template, or one that cannot write what a user says.
    """
    template = templates.template_of(tokenizer)
    return Writer(tokenizer, template, stop_ids(tokenizer), len(tokenizer))


def pair_tokens(tokenizer: Any, prompt: Prompt, response: str) -> tuple[list[int], list[bool]]:
    """`written_pair` by a tokenizer.

    Raises:
        UserError: as `writer_of` and `written_pair`.
    """
    return written_pair(writer_of(tokenizer), prompt, response)


def written_pair(writer: Writer, prompt: Prompt, response: str) -> tuple[list[int], list[bool]]:
    """Tokens of a prompt and its reply, and which of them the model should have written.

    They are the tokens of the prompt exactly as it is asked, the reply as the template writes it,
    and the stop with which the template ends it; the mask is of the reply and its stop. Where the
    template marks what the model writes (`{% generation %}`), of those only what is marked. What a
    template writes for a finished dialogue alone, such as an empty thought, is left out.

    Raises:
        UserError: there would be nothing to train on, or it is unclear what the reply is.
    """
    asked, reply = reply_text(writer, messages_of(prompt), response)
    start, _ = _encode(writer.tokenizer, writer.template, asked)
    rest, spans = _continued(writer, asked, start, reply.text)
    mask = _marked(reply, spans) if writer.template.marked else [True] * len(rest)
    if not any(mask):
        raise UserError(
            "the chat template marks no token of the reply; mend its {% generation %} marks, or "
            "take them out (config.template.file)"
        )
    inside = [token for token in rest[:-1] if token in writer.stops]
    if inside:
        token = writer.tokenizer.convert_ids_to_tokens(inside[0])
        raise UserError(f"the reply goes on behind {token}, which ends one; take it out")
    return start + rest, [False] * len(start) + mask


def reply_text(
    writer: Writer, messages: Sequence[Message], response: str
) -> tuple[str, templates.Text]:
    """The text that is asked, and what the model should write after it, stop included.

    Raises:
        UserError: it is unclear what that is.
    """
    templates.check_text(response)
    said = [[*messages, {"role": "assistant", "content": text}] for text in (PLACE, response)]
    written = writer.template.write((messages, True), (said[0], False), (said[1], False))
    (asked, frame), whole = (text.text for text in written[:2]), written[2]
    if frame.count(PLACE) != 1:
        raise UserError("the chat template does not write the reply; see config.template.file")
    before, after = frame.split(PLACE)
    if not before.startswith(thoughts.before(asked)):
        raise UserError(
            "the chat template writes a prompt differently once a reply follows it, so what the "
            "reply is asked with is unclear; see config.template.file"
        )
    end = len(whole.text) - len(after)
    if not whole.text.endswith(after):
        raise UserError("the chat template ends this reply in another way than others")
    if whole.text.startswith(before) and len(before) <= end:
        start = len(before)
    elif whole.text.startswith(asked) and len(asked) <= end:  # a reply with a thought of its own
        start = len(asked)
    else:
        raise UserError("the chat template writes this reply in another way than others")
    reply = whole.text[start:end]
    opened = thoughts.opened(asked)
    if opened is not None:
        reply = _thought_through(*opened, response)
    if not reply.strip():
        raise UserError("the chat template leaves nothing of the reply")
    lead = _lead(asked, before) if start == len(before) else ""
    stop = after[: _stop_end(writer, after)]
    shift = start - len(lead)
    marks = [(a - shift, b - shift) for a, b in whole.marks]
    return asked, templates.Text(lead + reply + stop, tuple(m for m in marks if m[1] > 0))


def _lead(asked: str, before: str) -> str:
    """What stands between a prompt as it is asked and the reply, if the model is to write it."""
    between = before[len(asked) :] if before.startswith(asked) else ""
    if between.strip() and not thoughts.is_empty(between):
        warnings.warn(
            f"the chat template writes {between!r} before a reply, but not when it asks for one; "
            "pairs are trained without it, as prompts are asked",
            stacklevel=2,
        )
    return "" if between.strip() else between


def _thought_through(opens: str, closes: str, response: str) -> str:
    """The reply to a prompt that opens a thought: it has to close it."""
    if closes not in response:
        raise UserError(
            f"the chat template opens a thought ({opens}) where the reply begins, and the reply "
            f"has none that ends ({closes}): turn thoughts off (config.template.arguments) or name "
            "a template without (config.template.file)"
        )
    return response.lstrip().removeprefix(opens).lstrip()


def _stop_end(writer: Writer, after: str) -> int:
    """Where the first token ends that ends a turn, in what a template writes behind a reply."""
    found = _turn_end(writer.tokenizer, writer.size, after)
    return 0 if found is None else after.index(found) + len(found)


@functools.lru_cache(maxsize=64)
def _turn_end(tokenizer: Any, size: int, after: str) -> str | None:
    """The first special token in a text, or the first added one."""
    known = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    if tokenizer.eos_token is not None:
        known[str(tokenizer.eos_token)] = True
    there = [text for text in known if text.strip() and text in after]
    special = [text for text in there if known[text]]
    return min(special or there, key=lambda text: (after.index(text), -len(text)), default=None)


def stop_ids(tokenizer: Any, extra: Sequence[int] = ()) -> tuple[int, ...]:
    """Token ids that end a reply, each once.

    They are the tokenizer's end token, the one that its chat template writes behind a reply, and
    `extra` ones, such as those of a model's config.
    """
    eos = tokenizer.eos_token_id
    own = () if eos is None else (int(eos),)
    found = (*own, *_template_stop(tokenizer), *(int(stop) for stop in extra))
    return tuple(dict.fromkeys(found))


def _template_stop(tokenizer: Any) -> tuple[int, ...]:
    """The token that the chat template writes behind a reply; () if it writes none."""
    try:
        after = _behind_a_reply(templates.template_of(tokenizer))
    except UserError:  # said when it is asked for a prompt
        return ()
    found = _turn_end(tokenizer, len(tokenizer), after)
    return () if found is None else (int(tokenizer.convert_tokens_to_ids(found)),)


@functools.lru_cache(maxsize=64)
def _behind_a_reply(template: Template) -> str:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": PLACE}]
    (frame,) = template.write((turns, False))
    return frame.text.rpartition(PLACE)[2]


# --- Texts to tokens ----------------------------------------------------------------------------


def _encode(tokenizer: Any, template: Template, text: str) -> Spanned:
    """Tokens of a text in which all special ones are written, and where in it they stand.

    A plain text is taken as the tokenizer takes texts: some read the first word after their opening
    otherwise than a word after a special token that is written. Tokenizers that do not say where a
    token stands (slow ones) are taken to mean the whole text.
    """
    opening, ids = template.opening
    skipped = len(opening) if text.startswith(opening) else 0
    found = tokenizer(
        text[skipped:], add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast
    )
    tokens = [*(ids if skipped else ()), *found["input_ids"]]
    spans = found.get("offset_mapping") or [(0, len(text) - skipped)] * len(found["input_ids"])
    first = [(0, skipped)] * (len(tokens) - len(spans))
    return tokens, [*first, *((a + skipped, b + skipped) for a, b in spans)]


def _continued(writer: Writer, before: str, tokens: list[int], text: str) -> Spanned:
    """Tokens of a text that goes on from another one with its tokens, and where in it they stand.

    Where a token would reach from one into the other, it is cut in two, for what is asked is
    `before` alone.
    """
    for start in (before, *_ANCHORS):
        encoded = functools.partial(_encode, writer.tokenizer, writer.template)
        first = tokens if start == before else encoded(start)[0]
        whole, spans = encoded(start + text)
        if whole[: len(first)] == first:
            rest = [(a - len(start), b - len(start)) for a, b in spans[len(first) :]]
            return whole[len(first) :], rest
    raise UserError("no token ends where the reply begins")


def _marked(reply: templates.Text, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens of a reply stand where the template marks it."""
    inside = np.zeros(len(reply.text), bool)
    for start, end in reply.marks:
        inside[max(start, 0) : end] = True
    mask, last = [], 0
    for start, end in spans:
        # A tokenizer may leave blanks out of its spans: they are of the token they stand before.
        start, end = min(start, last), max(end, last)
        mask.append(bool(inside[start:end].any()))
        last = end
    return mask
