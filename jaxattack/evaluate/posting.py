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
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from jaxattack.errors import UserError
from jaxattack.evaluate.redact import hide

LOCAL = ("localhost", "127.0.0.1", "::1")
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between tries, if the server does not say
PATIENCE = 600.0  # the longest wait that a server may ask for
SHOWN = 200  # characters of a server's message
_LARGEST = 1 << 24  # bytes read of an answer


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back. Status 0: nothing did, and the body says why.

    `wait` is how many seconds the server asks to wait, if it does; `flaw` says why the body is of
    no use, whatever it holds.
    """

    status: int
    body: str
    wait: float | None = None
    location: str = ""
    flaw: str = ""

    @property
    def good(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Whether another try may go better."""
        return self.status in (0, 408, 409, 429) or self.status >= 500


@dataclasses.dataclass(frozen=True)
class Told:
    """What is kept of an answer; None with why not, and whether another try may go better."""

    kept: dict[str, Any] | None
    why: str = ""
    again: bool = False


class _AsItComes(urllib.request.HTTPErrorProcessor):
    """Returns every answer, also errors and redirects: the key goes to no other address."""

    def http_response(self, request, response):
        return response

    https_response = http_response


class _Guard:
    """Ends a connection at a deadline, whatever it is doing.

    A timeout of a socket begins anew with every byte that comes: a server that sends one now and
    then, or is never done with its headers, would hold a request for ever.
    """

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds
        self._twin: socket.socket | None = None
        self.late = False
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def connect(self, address, timeout=None, source_address=None):
        """As `socket.create_connection`."""
        left = max(0.001, self._end - time.monotonic())
        found = socket.create_connection(address, left, source_address)
        # Of its own, because TLS takes the first one over.
        self._twin = found.dup()
        if self.late:
            self._cut()
        return found

    def _cut(self) -> None:
        self.late = True
        if self._twin is not None:
            with contextlib.suppress(OSError):
                self._twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """No deadline any more."""
        self._timer.cancel()
        if self._twin is not None:
            self._twin.close()


def _opener(guard: _Guard, url: str) -> urllib.request.OpenerDirector:
    def guarded(kind):
        def make(host, **options):
            connection = kind(host, **options)
            connection._create_connection = guard.connect
            return connection

        return make

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request):
            return self.do_open(guarded(http.client.HTTPConnection), request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request):
            return self.do_open(guarded(http.client.HTTPSConnection), request)

    handlers: list[urllib.request.BaseHandler] = [_AsItComes(), Http(), Https()]
    if urllib.parse.urlsplit(url).hostname in LOCAL:
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy would read the key
    return urllib.request.build_opener(*handlers)


def send(url: str, body: bytes, key: str | None, timeout: float) -> Answer:
    """POST a JSON body once. Never raises for what the server or the network does.

    Args:
        url: where.
        body: what.
        key: for the Authorization header.
        timeout: seconds for all of it, from connecting to the last byte.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "jaxattack"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, body, headers, method="POST")
    guard = _Guard(timeout)
    try:
        with _opener(guard, url).open(request, timeout=timeout) as response:
            found = response.read(_LARGEST + 1)
            answer = _answer(response.status, response.headers, found)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        answer = Answer(0, str(reason) or type(reason).__name__)
    finally:
        guard.close()
    if guard.late:
        return Answer(0, f"timed out: not done after {timeout:g} seconds")
    return answer


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    flaw = ""
    if headers.get("Content-Encoding", "").lower() in ("gzip", "x-gzip"):
        try:
            body = zlib.decompressobj(wbits=31).decompress(body, _LARGEST + 1)
        except zlib.error:
            flaw = "it cannot be decompressed"
    if len(body) > _LARGEST:
        body, flaw = b"", f"it is longer than {_LARGEST >> 20} MiB"
    wait = seconds_asked(headers.get("Retry-After", ""), time.time())
    short = re.fullmatch(r"\s*(\d{1,9})(\.\d+)?\s*", headers.get("Retry-After-Ms", ""))
    if short:
        wait = float(short[1]) / 1000
    return Answer(status, body.decode(errors="replace"), wait, headers.get("Location", ""), flaw)


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
    read: Callable[[Answer], Told],
    explain: Callable[[Answer, str], str],
    pace: Pace,
    retries: int,
    sleep: Callable[[float], object],
) -> dict[str, Any]:
    """Try until an answer can be read.

    Args:
        attempt: sends the request once.
        read: what an answer says.
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
        told = read(answer)
        if told.kept is not None:
            return told.kept
        if not told.again:
            raise UserError(explain(answer, told.why))
        if answer.wait is not None and answer.wait > PATIENCE:
            asked = f"the server asks to wait {answer.wait:.0f} seconds"
            raise UserError(f"{explain(answer, told.why)}; {asked}")
        if done == retries:
            break
        if answer.wait is not None:
            pace.hold(answer.wait)
        else:
            sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**done) * random.uniform(0.5, 1))
    raise UserError(f"{explain(answer, told.why)}; gave up after {retries + 1} tries")


def seconds_asked(retry_after: str, now: float) -> float | None:
    """The wait that a Retry-After header asks for, seconds or a date; None if it says nothing."""
    text = retry_after.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        at = email.utils.parsedate_to_datetime(text)
        return max(0.0, at.replace(tzinfo=at.tzinfo or datetime.UTC).timestamp() - now)
    return None


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
