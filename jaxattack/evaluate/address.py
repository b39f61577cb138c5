"""Where a served model is asked, with whose key, and what its server's refusals mean."""

from __future__ import annotations

import dataclasses
import os
import re
import urllib.parse
from typing import Any

from jaxattack.errors import UserError, printable
from jaxattack.evaluate import completions, posting
from jaxattack.evaluate.completions import INSIDE

# What to look at when a request is refused; `{key}` is the variable that should hold the key.
HINTS = {
    400: "the server does not take the request",
    401: "the server does not accept the key in {key}",
    403: "the key in {key} may not use this model",
    404: "no such address or model; look at base_url (it often ends in /v1) and model",
}

# Kind, least (a number above 0, or 0) and most of the fields that are numbers.
_BOUNDS: dict[str, tuple[Any, float, float]] = {
    "requests_per_minute": (int | float, 1e-3, 1e7),
    "parallel": (int, 1, 256),
    "timeout_seconds": (int | float, 1e-3, 86_400),
    "max_new_tokens": (int, 1, 10**6),
    "retries": (int, 0, 100),
    "most_minutes": (int | float, 1e-4, 1e6),
}


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where to ask and how.

    `key_variable` names the environment variable that holds the key; a server on this machine
    needs none. All threads together keep to `requests_per_minute`, retries included. A request may
    take `timeout_seconds` in all, and asking all prompts `most_minutes`.

    Raises:
        UserError: a value that cannot be right, or an address to which a key should not go.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    requests_per_minute: float = 60
    parallel: int = 4
    timeout_seconds: float = 120
    max_new_tokens: int = 256
    retries: int = 5
    most_minutes: float = 1440

    def __post_init__(self) -> None:
        _check_address(self.base_url)
        if not self.model.strip():
            raise UserError("model is empty; give the name by which the server knows it")
        if self.model != printable(self.model):
            raise UserError(f"model is {self.model!r}; a name has no control characters")
        # Keys have small letters or signs: one given by mistake is not repeated.
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.key_variable):
            raise UserError(
                "key_variable is the name of an environment variable, in capitals, not the key"
            )
        for name, (kind, least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
                above = "above 0" if least else "0 or above"
                whole = "whole, " if kind is int else ""
                raise UserError(
                    f"{name} is {value!r}; it should be {whole}{above}, at most {most:g}"
                )

    @property
    def address(self) -> str:
        """The base URL in one spelling."""
        parts = urllib.parse.urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _check_address(url: str) -> None:
    # None of these lines repeats the address: there may be a password in it.
    wrong = UserError("base_url is no address; it looks like https://host/v1")
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not host or parts.scheme not in ("http", "https") or not re.fullmatch(r"[!-~]+", url):
        raise wrong
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            "base_url has a user, password or query in it; give only scheme, host and path, and "
            "the key in an environment variable"
        )
    if parts.scheme == "http" and host not in posting.LOCAL:
        raise UserError(
            f"base_url is http, and {host} is not this machine: the key would be readable on the "
            "way; use https"
        )


def read_key(endpoint: Endpoint) -> str | None:
    """The key from the environment; None for a server on this machine that needs none.

    Raises:
        UserError: it is not there, or cannot be a key.
    """
    key = os.environ.get(endpoint.key_variable, "").strip()
    host = urllib.parse.urlsplit(endpoint.base_url).hostname
    if not key and host in posting.LOCAL:
        return None
    if not key:
        raise UserError(
            f"{host} needs a key: set the environment variable {endpoint.key_variable}, or name "
            "another one as key_variable"
        )
    # A short one is a word, and would be taken out of replies.
    if not re.fullmatch(r"[!-~]{8,}", key):
        raise UserError(
            f"what {endpoint.key_variable} holds is no key: 8 or more ASCII characters without "
            "spaces; unset it for a server on this machine that needs none"
        )
    return key


def explain(answer: posting.Answer, endpoint: Endpoint, key: str | None, why: str = "") -> str:
    """What is wrong with an answer, on one line, without the key; `why` of what it holds."""
    host = urllib.parse.urlsplit(endpoint.base_url).netloc
    told = posting.said(answer.body, key)
    if answer.status == 0:
        return f"{host}: no answer ({told or 'what it sent is no HTTP'})"
    if why and answer.good and why != INSIDE:  # its text may be a reply, and is not shown
        return f"{host}: HTTP {answer.status}, and no reply in it ({why}); is this a chat model?"
    if 300 <= answer.status < 400:
        there = posting.said(answer.location, key)
        return (
            f"{host}: HTTP {answer.status}, it redirects to {there!r}, where nothing is sent; if "
            "you trust that address, give it as base_url"
        )
    hint = HINTS.get(answer.status, "the server refuses" if not answer.passing else "")
    if answer.status == 401 and key is None:
        hint = "the server asks for a key; set the environment variable {key}"
    if completions.wants_random(answer):
        hint = "the model takes no temperature 0, and replies drawn at random are not measured here"
    hint = why or hint.format(key=endpoint.key_variable)
    parts = (f"HTTP {answer.status}", hint, f"it says {told!r}" if told else "")
    return f"{host}: " + "; ".join(filter(None, parts))
