"""Asking a model behind an OpenAI-compatible HTTP endpoint: hosted, or a server on this machine.

Answers are kept in a file as they come, named by what was asked: asking the same again sends only
what is missing. The key is in the Authorization header and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxattack.errors import UserError
from jaxattack.evaluate import kept, posting
from jaxattack.evaluate.address import Endpoint, explain, read_key
from jaxattack.evaluate.judge import Reply
from jaxattack.progress import track

Prompt = str | Sequence[Mapping[str, str]]  # a user turn, or role/content messages


class _Stopped(Exception):
    """Another request failed, or the program is being left."""


def ask(
    prompts: Sequence[Prompt],
    endpoint: Endpoint,
    folder: str | pathlib.Path,
    sleep: Callable[[float], object] | None = None,
) -> list[Reply]:
    """Greedy replies to the prompts, in order.

    Args:
        prompts: what to ask.
        endpoint: whom.
        folder: keeps the replies' text, in `replies.jsonl`; what is there already is not asked.
        sleep: waits for so many seconds; by default until then or until another request failed.

    Raises:
        UserError: no key, or a request that is refused or not answered after all tries. What was
            answered until then is kept.
    """
    bodies = [_body(prompt, endpoint) for prompt in prompts]
    names = [_name(body, endpoint) for body in bodies]
    file = kept.open_file(pathlib.Path(folder).expanduser())
    replies = kept.replies(file)
    jobs = {name: body for name, body in zip(names, bodies, strict=True) if name not in replies}
    if jobs:
        failed = _ask(jobs, endpoint, file, sleep)
        replies = kept.replies(file)
        if failed is not None:
            name, error = failed
            if not isinstance(error, UserError):
                raise error
            done = sum(name in replies for name in names)
            raise UserError(
                f"{error} (prompt {names.index(name) + 1}; {done} of {len(names)} are answered, "
                "the same command goes on from there)"
            )
    return [replies[name] for name in names]


def _ask(
    jobs: Mapping[str, bytes],
    endpoint: Endpoint,
    file: pathlib.Path,
    sleep: Callable[[float], object] | None,
) -> tuple[str, BaseException] | None:
    """Send the requests and keep the answers; the first failure, after which none is begun."""
    key = read_key(endpoint)
    stop = threading.Event()

    def rest(seconds: float) -> None:
        (sleep or stop.wait)(seconds)
        if stop.is_set():
            raise _Stopped

    pace = posting.Pace(endpoint.requests_per_minute, sleep=rest)
    url = f"{endpoint.address}/chat/completions"

    def act(name: str) -> None:
        found = posting.persist(
            lambda: posting.send(url, jobs[name], key, endpoint.timeout_seconds),
            lambda body: read(body, key),
            lambda answer: explain(answer, endpoint, key),
            pace,
            endpoint.retries,
            rest,
        )
        kept.add(file, {"request": name, **found})

    failed = None
    try:
        ended = _each(list(jobs), act, endpoint.parallel, stop)
        for name, error in track(ended, f"asking {endpoint.model}", len(jobs)):
            if error is not None and failed is None:
                failed = name, error
    finally:
        stop.set()
    return failed


def _each(
    names: Sequence[str], act: Callable[[str], None], parallel: int, stop: threading.Event
) -> Iterator[tuple[str, BaseException | None]]:
    """Act on all names on a few threads; each as it ends, with its error."""
    todo: queue.SimpleQueue[str] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[str, BaseException | None] | None] = queue.SimpleQueue()
    for name in names:
        todo.put(name)

    def work() -> None:
        while not stop.is_set():
            try:
                name = todo.get_nowait()
            except queue.Empty:
                break
            try:
                act(name)
                done.put((name, None))
            except BaseException as error:
                done.put((name, error))  # before the others stop, and are failures too
                stop.set()
        done.put(None)

    working = min(parallel, len(names))
    for _ in range(working):
        # Daemons, which an executor's threads are not: Ctrl-C does not wait for a slow server.
        threading.Thread(target=work, daemon=True).start()
    while working:
        ended = done.get()
        if ended is None:
            working -= 1
        else:
            yield ended


def _body(prompt: Prompt, endpoint: Endpoint) -> bytes:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    body = {
        "model": endpoint.model,
        "messages": turns,
        "temperature": 0,
        "max_tokens": endpoint.max_new_tokens,
    }
    return json.dumps(body, sort_keys=True).encode()


def _name(body: bytes, endpoint: Endpoint) -> str:
    asked = "\0".join((endpoint.model, endpoint.address, body.decode()))
    return hashlib.sha256(asked.encode()).hexdigest()[:24]


def read(body: str, key: str | None) -> dict[str, Any] | None:
    """What to keep of a chat completion, without the key; None if there is no reply in it."""
    try:
        told = json.loads(body)
        choice = told["choices"][0]
        message, ending = choice["message"], choice.get("finish_reason")
        text = message.get("content")
        if text is None:
            text = message.get("refusal")
        served = str(told.get("model", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if text is None and ending in ("length", "content_filter"):
        text = ""  # no text came of it, and none would the next time
    if not isinstance(text, str):
        return None
    return {"text": _safe(text, key), "cut": ending == "length", "model": _safe(served, key)}


def _safe(text: str, key: str | None) -> str:
    # The limit may leave half of a character, which no file can hold.
    return posting.hide(text.encode(errors="replace").decode(), key)
