"""Renders chat templates in a process of its own; `templates` starts it and talks to it.

A template is somebody else's program. Here it gets no files, no clock and no network (jinja's
sandbox), and what the sandbox does not stop, loops without end and strings without measure, ends
this process and not the study. So nothing of the package is imported here: it starts fast.

Each line of standard input is a job, each line of standard output what came of it, as JSON.
"""

from __future__ import annotations

import datetime
import functools
import json
import signal
import sys
from typing import Any

import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 10.0  # for a job, which takes a millisecond
CHARACTERS = 4_000_000  # of a rendered dialogue
MEMORY = 1 << 30  # of this process

# Noncharacters around what `{% generation %}` marks; `templates` keeps them out of dialogues.
OPEN, CLOSE = "\ufdd0", "\ufdd1"


class Generation(jinja2.ext.Extension):
    """The tag `{% generation %}`, by which a template says what the model writes."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own way to name them)

    def __init__(self, environment: jinja2.Environment):
        """Nothing is marked yet."""
        super().__init__(environment)
        environment.marked = False  # type: ignore[attr-defined]

    def parse(self, parser: Any) -> nodes.Node:
        """Note the tag, and put marks around what it holds."""
        line = next(parser.stream).lineno
        self.environment.marked = True  # type: ignore[attr-defined]
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Any) -> str:
        return OPEN + caller() + CLOSE


@functools.lru_cache(maxsize=64)
def compiled(source: str, day: str) -> tuple[jinja2.Template, bool, frozenset[str]]:
    """A template as transformers would compile it, whether it has marks, and the names in it.

    "Now" is the beginning of `day`.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    now = datetime.datetime.fromisoformat(day)
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": now.strftime}
    names = frozenset(node.name for node in environment.parse(source).find_all(nodes.Name))
    return environment.from_string(source), environment.marked, names  # type: ignore[attr-defined]


def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON as it is; jinja's own filter escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def raise_exception(message: str) -> None:
    """What templates call to refuse a dialogue."""
    raise jinja2.TemplateError(message)


def done(job: dict[str, Any]) -> dict[str, Any]:
    """What a job's template is like, and the texts of its dialogues."""
    template, marked, names = compiled(job["source"], job["day"])
    texts = [written(template, dialogue) for dialogue in job["dialogues"]]
    return {"texts": texts, "marked": marked, "names": sorted(names)}


def written(template: jinja2.Template, variables: dict[str, Any]) -> str:
    """One dialogue as a text, marks included."""
    parts, count = [], 0
    for part in template.generate(variables):
        parts.append(part)
        count += len(part)
        if count > CHARACTERS:
            raise jinja2.TemplateError(f"it writes more than {CHARACTERS} characters")
    return "".join(parts)


def main() -> None:
    """Work off jobs until there are no more."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, OSError, ValueError):  # not every system has such a limit
        pass
    for line in sys.stdin.buffer:
        job = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, job["seconds"])  # the signal ends the process
        try:
            answer = done(job)
        except MemoryError:
            answer = {"error": f"it needs more than {MEMORY >> 20} MB", "stopped": True}
        except RecursionError:
            answer = {"error": "it calls itself without end"}
        except jinja2.TemplateSyntaxError as error:
            answer = {"error": f"line {error.lineno}: {error.message}"}
        except jinja2.TemplateError as error:
            answer = {"error": str(error)}
        except Exception as error:  # whatever a template makes of a dialogue
            answer = {"error": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
