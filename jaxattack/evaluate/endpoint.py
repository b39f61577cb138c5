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

from jaxattack.errors import UserError, printable
from jaxattack.evaluate import completions, kept, posting
from jaxattack.evaluate.address import Endpoint, explain, read_key
from jaxattack.evaluate.judge import Reply
from jaxattack.paths import expand
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
        UserError: no key, a request that is refused or not answered after all tries, no time left,
            or another program is asking here. What was answered until then is kept.
    """
    _check(prompts)
    bodies = [_body(prompt, endpoint) for prompt in prompts]
    names = [_name(body, endpoint) for body in bodies]
    place = expand(str(folder), str(folder))
    replies = kept.replies(place)
    if any(name not in replies for name in names):
        with kept.opened(place) as store:
            replies = kept.replies(place)  # before it was locked, another may have asked
            jobs = {n: body for n, body in zip(names, bodies, strict=True) if n not in replies}
            failed = _ask(jobs, endpoint, store, sleep) if jobs else None
        replies = kept.replies(place)
        if failed is not None:
            name, error = failed
            if not isinstance(error, UserError):
                raise error
            done = sum(name in replies for name in names)
            where = f"prompt {names.index(name) + 1}; " if name else ""
            raise UserError(
                f"{error} ({where}{done} of {len(names)} are answered, "
                "the same command goes on from there)"
            )
    return [replies[name] for name in names]


def _ask(
    jobs: Mapping[str, bytes],
    endpoint: Endpoint,
    store: kept.Store,
    sleep: Callable[[float], object] | None,
) -> tuple[str, BaseException] | None:
    """Send the requests and keep the answers; the first failure, after which none is begun."""
    key = read_key(endpoint)
    stop, late, newer = threading.Event(), threading.Event(), threading.Event()

    def rest(seconds: float) -> None:
        (sleep or stop.wait)(seconds)
        if stop.is_set():
            raise _Stopped

    def end() -> None:
        late.set()
        stop.set()

    pace = posting.Pace(endpoint.requests_per_minute, sleep=rest)
    url = f"{endpoint.address}/chat/completions"

    def send(body: bytes) -> posting.Answer:
        def once() -> posting.Answer:
            sent = _with_newer_limit(body) if newer.is_set() else body
            return posting.send(url, sent, key, endpoint.timeout_seconds)

        answer = once()
        if completions.wants_other_limit(answer) and not newer.is_set():
            newer.set()  # for all requests to come
            pace.turn()
            answer = once()
        return answer

    def act(name: str) -> None:
        found = posting.persist(
            lambda: send(jobs[name]),
            lambda answer: completions.read(answer, key),
            lambda answer, why: explain(answer, endpoint, key, why),
            pace,
            endpoint.retries,
            rest,
        )
        store.add({"request": name, **found})

    failed: tuple[str, BaseException] | None = None
    timer = threading.Timer(endpoint.most_minutes * 60, end)
    timer.daemon = True
    timer.start()
    try:
        ended = _each(list(jobs), act, endpoint.parallel, stop)
        for name, error in track(ended, f"asking {printable(endpoint.model)}", len(jobs)):
            if error is not None and failed is None:
                failed = name, error
    finally:
        timer.cancel()
        stop.set()
    if late.is_set() and (failed is None or isinstance(failed[1], _Stopped)):
        return "", UserError(f"not done after {endpoint.most_minutes:g} minutes (most_minutes)")
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


def _check(prompts: Sequence[Prompt]) -> None:
    for number, prompt in enumerate(prompts, start=1):
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if (
            not isinstance(turns, Sequence)
            or not turns
            or not all(isinstance(turn, Mapping) and turn.get("role") for turn in turns)
        ):
            raise UserError(f"prompt {number} is {str(prompt)[:80]!r}; give a text, or messages")
        texts = [turn.get("content") for turn in turns]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise UserError(f"prompt {number} has no text, or something that is none")


def _body(prompt: Prompt, endpoint: Endpoint) -> bytes:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    body = {
        "model": endpoint.model,
        "messages": turns,
        "temperature": 0,
        "max_tokens": endpoint.max_new_tokens,
    }
    return json.dumps(body, sort_keys=True).encode()


def _with_newer_limit(body: bytes) -> bytes:
    """The request with the name that newer hosted models have for the limit."""
    told = json.loads(body)
    told["max_completion_tokens"] = told.pop("max_tokens")
    return json.dumps(told, sort_keys=True).encode()


def _name(body: bytes, endpoint: Endpoint) -> str:
    asked = "\0".join((endpoint.model, endpoint.address, body.decode()))
    return hashlib.sha256(asked.encode()).hexdigest()[:24]
