"""Our end of the process that renders chat templates (see `renderer`)."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.data import renderer
from jaxattack.errors import UserError


class Stopped(UserError):
    """A template that was stopped, and would be again."""


class _Process:
    """The renderer, started when it is first needed and again when a template has ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """What comes of a job."""
        try:
            line = json.dumps(job).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            return {"error": f"a message is no JSON: {error}"}
        with self._lock:
            process = self._alive()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(line)
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = b""
            except BaseException:  # an interrupt: its answer would be taken for the next one's
                self._end()
                raise
            if line:
                return json.loads(line)
            code = process.wait()
            self._end()
        slow = code == -signal.SIGALRM
        what = (
            f"it does not end within {renderer.SECONDS:g} seconds"
            if slow
            else f"it ended the process that renders it, code {code}"
        )
        return {"error": what, "stopped": True}

    def _alive(self) -> subprocess.Popen[bytes]:
        # A forked child must not talk to its parent's.
        if self._running is None or self._owner != os.getpid():
            self._running = subprocess.Popen(
                [sys.executable, "-P", str(pathlib.Path(renderer.__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._owner = os.getpid()
            atexit.register(self._end)
        return self._running

    def _end(self) -> None:
        if self._running is not None and self._owner == os.getpid():
            self._running.kill()
            for pipe in (self._running.stdin, self._running.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._running.wait()
        self._running = None


_PROCESS = _Process()


def render(
    where: str, source: str, day: str, dialogues: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """What a template is like and the texts of dialogues, by the variables each is given.

    Raises:
        UserError: the template is wrong, or cannot write one of them; names `where`.
    """
    found = _PROCESS.answer(
        {"source": source, "day": day, "dialogues": dialogues, "seconds": renderer.SECONDS}
    )
    if "error" in found:
        reason = " ".join(found["error"].split())[:300]
        kind = Stopped if found.get("stopped") else UserError
        raise kind(
            f"{where}: the chat template cannot write this dialogue ({reason}); "
            "config.template.file names another one"
        )
    return found
