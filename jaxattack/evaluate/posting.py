"""Sending a request over HTTP until it is answered: tries, waits, and the pace of all requests."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.utils
import http.client
import json
import random
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from jaxattack.errors import UserError

LOCAL = ("localhost", "127.0.0.1", "::1")
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between tries, if the server does not say
PATIENCE = 600.0  # the longest wait that a server may ask for
SHOWN = 200  # characters of a server's message
_LARGEST = 1 << 24  # bytes read of an answer

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back. Status 0: nothing did, and the body says why."""

    status: int
    body: str
    retry_after: str = ""
    location: str = ""

    @property
    def good(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether another try may go better."""
        return self.status in (0, 408, 409, 429) or self.status >= 500


class _AsItComes(urllib.request.HTTPErrorProcessor):
    """Returns every answer, also errors and redirects: the key goes to no other address."""

    def http_response(self, request, response):
        return response

    https_response = http_response


def send(url: str, body: bytes, key: str | None, timeout: float) -> Answer:
    """POST a JSON body once. Never raises for what the server or the network does."""
    headers = {"Content-Type": "application/json", "User-Agent": "jaxattack"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    handlers: list = [_AsItComes()]
    if urllib.parse.urlsplit(url).hostname in LOCAL:
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy would read the key
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as response:
            return Answer(
                response.status,
                response.read(_LARGEST).decode(errors="replace"),
                response.headers.get("Retry-After", ""),
                response.headers.get("Location", ""),
            )
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Answer(0, str(reason) or type(reason).__name__)


class Pace:
    """Turns for requests of all threads: at most `per_minute` in any minute, evenly spread."""

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ):
        """The first turn is free at once."""
        self._interval = 60 / per_minute
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = self._held = clock()

    def turn(self) -> None:
        """Wait for the next turn and take it."""
        with self._lock:  # who comes later waits behind who sleeps here
            wait = max(self._next, self._held) - self._clock()
            if wait > 0:
                self._sleep(wait)
            self._next = self._clock() + self._interval

    def hold(self, seconds: float) -> None:
        """No turns for so long: the server asked for it."""
        self._held = max(self._held, self._clock() + seconds)


def persist(
    attempt: Callable[[], Answer],
    read: Callable[[str], T | None],
    explain: Callable[[Answer], str],
    pace: Pace,
    retries: int,
    sleep: Callable[[float], object],
) -> T:
    """Try until an answer can be read.

    Args:
        attempt: sends the request once.
        read: what is wanted of the body of a good answer; None if it is not in it.
        explain: what is wrong with an answer, in words that are safe to show.
        pace: when a try may start.
        retries: how many tries may follow the first.
        sleep: waits between tries: 1, 2, 4, ... seconds, less up to half of it by chance.

    Raises:
        UserError: an answer that will be the same next time, no tries left, or the server asks to
            wait for longer than `PATIENCE`.
    """
    for done in range(retries + 1):
        pace.turn()
        answer = attempt()
        found = read(answer.body) if answer.good else None
        if found is not None:
            return found
        if not answer.good and not answer.passing:
            raise UserError(explain(answer))
        asked = seconds_asked(answer.retry_after, time.time())
        if asked is not None and asked > PATIENCE:
            raise UserError(f"{explain(answer)}; the server asks to wait {asked:.0f} seconds")
        if done == retries:
            break
        if asked is not None:
            pace.hold(asked)
        else:
            sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**done) * random.uniform(0.5, 1))
    raise UserError(f"{explain(answer)}; gave up after {retries + 1} tries")


def seconds_asked(retry_after: str, now: float) -> float | None:
    """The wait that a Retry-After header asks for, seconds or a date; None if it says nothing."""
    text = retry_after.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    with contextlib.suppress(TypeError, ValueError):
        at = email.utils.parsedate_to_datetime(text)
        return max(0.0, at.replace(tzinfo=at.tzinfo or datetime.UTC).timestamp() - now)
    return None


def hide(text: str, key: str | None) -> str:
    """The text without the key, which a server may echo."""
    return text.replace(key, "[key]") if key else text


def said(body: str, key: str | None) -> str:
    """A server's message on one short line, without the key."""
    line = " ".join(_message(body).split())
    # Hidden after the one and before the other: either could leave a key in parts.
    line = hide("".join(char for char in line if char.isprintable()), key)
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _message(body: str) -> str:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return body
    for name in ("error", "message", "detail"):
        if isinstance(told, dict) and name in told:
            told = told[name]
    return told if isinstance(told, str) else body
