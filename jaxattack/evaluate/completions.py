"""What a chat completions server answers: a reply to keep, or why there is none and what helps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from jaxattack.evaluate.posting import Answer, Told
from jaxattack.evaluate.redact import hide

# Codes and endings by which servers say that a filter of theirs, not the model, has withheld a
# reply or the rest of it.
_FILTERS = {
    "content_filter",
    "content_filtered",
    "content_policy_violation",
    "moderation_blocked",
    "responsibleaipolicyviolation",
    "data_inspection_failed",
    "datainspectionfailed",
    "content_blocked",
    "safety",
    "prohibited_content",
    "blocklist",
    "sensitive",
    "refusal",
    "guardrail_intervened",
    "recitation",
    "spii",
    "image_safety",
}
_LIMITS = {
    "length",
    "max_tokens",
    "model_length",
    "model_context_window_exceeded",
    "context_length_exceeded",
    "incomplete",
}
# The server stopped in the middle; the next answer may be whole.
_BROKEN = {"error", "abort", "network_error", "insufficient_system_resource"}
# More of the same would be answered in the same way.
_SPENT = {"insufficient_quota", "billing_hard_limit_reached", "quota_exceeded"}

INSIDE = "an error inside of it"


def read(answer: Answer, key: str | None) -> Told:
    """What an answer says, without the key.

    A reply that a filter withholds is one, `filtered`. A model that thinks and stops, or calls a
    tool, has given an empty reply: it would do the same again.
    """
    if answer.flaw:
        return Told(None, answer.flaw)
    told = _parsed(answer.body)
    error = _error(told, answer)
    if error is not None:
        return _failure(answer, error, key)
    if not answer.good:
        return Told(None, again=answer.passing)
    if not isinstance(told, dict):
        return _no_json(answer)
    choices = told.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Told(None, "it has no choices", again=True)
    return _choice(choices[0], str(told.get("model", "")), key)


def wants_other_limit(answer: Answer) -> bool:
    """Whether the server refuses `max_tokens` and names the newer `max_completion_tokens`."""
    error = _error(_parsed(answer.body), answer) if answer.status == 400 else None
    said = json.dumps(error) if isinstance(error, dict) else str(error or "")
    return "max_completion_tokens" in said and "max_tokens" in said


def wants_random(answer: Answer) -> bool:
    """Whether the server refuses `temperature` 0."""
    error = _error(_parsed(answer.body), answer) if answer.status == 400 else None
    return isinstance(error, dict) and (
        error.get("param") == "temperature" or "'temperature'" in str(error.get("message"))
    )


def _parsed(body: str) -> Any:
    try:
        return json.loads(body.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None


def _error(told: Any, answer: Answer) -> Any:
    """The error in a body, if there is one."""
    if not isinstance(told, dict):
        return None
    if told.get("error") and not told.get("choices"):
        return told["error"]
    return told if not answer.good or told.get("object") == "error" else None


def _codes(error: Any) -> Iterator[str]:
    """Every code and type in an error, and in those inside it."""
    inner: Any = error
    for _ in range(5):
        if not isinstance(inner, Mapping):
            return
        yield from (str(inner.get(name) or "").lower() for name in ("code", "type"))
        inner = inner.get("innererror") or inner.get("inner_error") or inner.get("error")


def _failure(answer: Answer, error: Any, key: str | None) -> Told:
    codes = set(_codes(error))
    metadata = error.get("metadata") if isinstance(error, Mapping) else None
    flagged = isinstance(metadata, Mapping) and "flagged_input" in metadata
    if (codes & _FILTERS or flagged) and answer.status in (200, 400, 403, 422):
        return Told({"text": "", "cut": False, "filtered": True, "model": ""})
    if codes & _SPENT:
        return Told(None, "the account's quota is spent")
    if not answer.good:
        return Told(None, again=answer.passing)
    status = next((int(code) for code in codes if code.isdecimal() and len(code) == 3), 0)
    again = dataclasses.replace(answer, status=status).passing
    return Told(None, INSIDE, again=again)


def _no_json(answer: Answer) -> Told:
    start = answer.body.lstrip()[:200].lower()
    if start.startswith(("data:", "event:")):
        return Told(None, "it streams events, which was not asked for")
    if start.startswith(("<!doctype", "<html")):
        return Told(None, "a web page, perhaps of a proxy", again=True)
    return Told(None, "it is no JSON object", again=True)


def _choice(choice: Mapping[str, Any], served: str, key: str | None) -> Told:
    # Details may follow: "content_filter: PROHIBITED_CONTENT".
    ending = str(choice.get("finish_reason") or "").lower().partition(":")[0].strip()
    filtered = ending in _FILTERS or not _FILTERS.isdisjoint(_codes(choice.get("error")))
    message = choice.get("message")
    if not isinstance(message, Mapping):
        if isinstance(choice.get("text"), str):
            return Told(None, "a text instead of a message: it completes, and does not chat")
        if not filtered:
            return Told(None, "its message is missing", again=True)
        message = {}
    if not filtered and (ending in _BROKEN or choice.get("error")):
        return Told(None, "the server broke off", again=True)
    text = _text(message.get("content"))
    if not text and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    thought = any(message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    called = bool(message.get("tool_calls") or message.get("function_call"))
    if text is None and not (filtered or thought or called or ending in _LIMITS):
        return Told(None, "its content is null", again=True)
    row = {"text": _safe(text or "", key), "cut": ending in _LIMITS, "model": _safe(served, key)}
    if filtered:
        row["filtered"] = True
    if not text and (thought or called):
        row["instead"] = "tool call" if called else "thoughts"
    return Told(row)


def _text(content: Any) -> str | None:
    """The text of a message's content: itself, or its parts but for thoughts; None without any."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type") not in ("thinking", "reasoning"):
            text = part.get("text", part.get("refusal"))
            texts += [text] if isinstance(text, str) else []
    return "".join(texts) if texts else None


def _safe(text: str, key: str | None) -> str:
    # The limit may leave half of a character, which no file can hold.
    return hide(text.encode(errors="replace").decode(), key)
