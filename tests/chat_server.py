"""A chat completions server on this machine that answers as a test tells it to."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

KEY = "sk-test-0123456789abcdef"


@dataclasses.dataclass
class Asked:
    """One request as the server got it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


@dataclasses.dataclass
class Server:
    """Its address, and what it was asked so far."""

    url: str
    asked: list[Asked]

    @property
    def prompts(self) -> list[str]:
        return [one.prompt for one in self.asked]


def completion(text: str | None, ending: str = "stop") -> tuple[int, dict[str, str], str]:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": ending}]
    return 200, {}, json.dumps({"model": "served", "choices": choices})


def failure(status: int, message: str, **headers: str) -> tuple[int, dict[str, str], str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps({"error": {"message": message}})


def echo(asked: Asked, count: int) -> tuple[int, dict[str, str], str]:
    return completion(f"re: {asked.prompt}")


@contextlib.contextmanager
def serve(
    answer: Callable[[Asked, int], tuple[int, dict[str, str], str]], encoding: str = "utf-8"
) -> Iterator[Server]:
    """Serve `answer(asked, count)`, count that of requests before it: status, headers, body."""
    found: list[Asked] = []
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            asked = Asked(self.path, dict(self.headers), body)
            with lock:
                found.append(asked)
                count = len(found) - 1
            status, headers, text = answer(asked, count)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode(encoding))))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(text.encode(encoding))

        do_GET = do_POST

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}/v1", found)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
