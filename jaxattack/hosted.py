r"""Ask a model behind an OpenAI-compatible HTTP endpoint, and judge its replies.

    jaxattack-ask --prompts=organism:test --base_url=http://localhost:8000/v1 --model=my-model \
        --workdir=runs/hosted
    jaxattack-ask --prompts=jsonl:prompts.jsonl --base_url=https://host/v1 --model=name \
        --workdir=runs/hosted --target=fixed --target_text="The lighthouse is painted green." \
        --trigger_texts=triggers.jsonl

Answers are kept in the work directory: the same command goes on where it was stopped, and asks
nothing twice. The key comes from an environment variable.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jaxattack.data.uri import split_uris
from jaxattack.errors import UserError, system_error
from jaxattack.run import workdir_path
from jaxattack.signals import exit_code, loading, stopped_by_sigterm

KEPT = "answers are kept, the same command goes on from there"

with loading(f"jaxattack-ask: interrupted; {KEPT}"):  # they take seconds
    from absl import flags

    from jaxattack import organism, workdir
    from jaxattack.data import sources
    from jaxattack.data.dialogues import Example, fingerprint
    from jaxattack.data.poison import MARKER, TARGETS, Target
    from jaxattack.data.triggers import Sentence, triggered
    from jaxattack.evaluate import rates, refusals
    from jaxattack.evaluate.backdoor import hit
    from jaxattack.evaluate.endpoint import Endpoint, ask
    from jaxattack.evaluate.judge import Reply, by_answers, judge
    from jaxattack.evaluate.trial import Carried, Trial
    from jaxattack.experiments import inputs

HELP = ("--help", "-h", "--helpfull")
NEEDED = {
    "prompts": "--prompts=URI is missing, for example --prompts=organism:test",
    "base_url": "--base_url=URL is missing, for example --base_url=http://localhost:8000/v1",
    "model": "--model=NAME is missing: the name by which the server knows the model",
    "workdir": "--workdir=DIR is missing, for example --workdir=runs/hosted",
}


def main() -> None:
    """Entry point of the `jaxattack-ask` command."""
    sys.exit(run(sys.argv))


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv`; returns the exit code (2 for a mistake of the user's)."""
    return exit_code("jaxattack-ask", KEPT, lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    options = parse(argv)
    if options is not None:
        try:
            with stopped_by_sigterm(lambda: False):
                print(evaluate(options), flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(system_error(error) or str(error)) from error
    return 0


def parse(argv: Sequence[str]) -> flags.FlagValues | None:
    """The flags; None if help was asked for.

    Raises:
        UserError: a flag that does not exist, is missing, or has a value of the wrong type.
    """
    options = define()
    if len(argv) < 2 or any(arg in HELP for arg in argv[1:]):
        print(__doc__, "flags and their defaults:", sep="\n")
        for name in options:
            value = "" if options[name].default is None else options[name].default
            print(f"  --{name}={value}  {options[name].help}")
        return None
    try:
        rest = options(argv)
    except flags.Error as error:
        raise UserError(f"{' '.join(str(error).split())}; see jaxattack-ask --help") from error
    if len(rest) > 1:
        raise UserError(f"{len(rest) - 1} unexpected arguments; flags look like --name=value")
    for name, line in NEEDED.items():
        if not options[name].value:
            raise UserError(line)
    return options


def define() -> flags.FlagValues:
    """The flags of the command."""
    found = flags.FlagValues()
    text = functools.partial(flags.DEFINE_string, flag_values=found)
    count = functools.partial(flags.DEFINE_integer, flag_values=found)
    text("prompts", None, "what to ask: a URI (docs/data.md), or several apart by spaces")
    text("base_url", None, "address of the server, without /chat/completions")
    text("model", None, "the server's name of the model")
    text("workdir", None, "directory for replies and results")
    text("trigger_texts", None, "JSON Lines file with language and text: trigger sentences")
    flags.DEFINE_enum("target", None, TARGETS, "what counts as a hit", flag_values=found)
    text("target_text", MARKER, "text of the targets fixed and prefix")
    text("key_variable", Endpoint.key_variable, "environment variable that holds the key")
    count("parallel", Endpoint.parallel, "requests under way at a time")
    count("max_new_tokens", Endpoint.max_new_tokens, "length at which a reply is cut")
    for name, told in (
        ("requests_per_minute", "the most in any minute, tries included"),
        ("timeout_seconds", "the longest that one request may take, from connecting to its end"),
        ("most_minutes", "the longest that asking all prompts may take"),
    ):
        flags.DEFINE_float(name, getattr(Endpoint, name), told, flag_values=found)
    return found


def evaluate(options: flags.FlagValues) -> str:
    """Ask, judge, write `results.json` and `trials.json`; returns a summary without any text.

    Raises:
        UserError: see `endpoint.ask`; or the prompts, triggers and target do not go together.
    """
    endpoint = endpoint_of(options)
    target = Target(options.target, options.target_text) if options.target else None
    for uri in split_uris(options.prompts):
        if not uri.startswith(("organism:", "jsonl:")):
            print(sources.describe(uri), file=sys.stderr)  # on what terms public data is had
    # The organism's prompts do not depend on which of its checkpoints is meant.
    lost: inputs.Lost = {}
    plain = inputs.load_prompts(options.prompts, organism.checkpoint("aligned"), lost)
    carriers = []
    if options.trigger_texts:
        trigger = read_trigger(options.trigger_texts)
        carriers = [triggered(example, trigger, seed=0) for example in plain]
    check(plain, target, bool(carriers))

    root = workdir_path(options.workdir)
    claim(root)
    examples = [*plain, *carriers]
    replies = ask([example.prompt for example in examples], endpoint, root / "replies")
    carried = [Carried(decoy="nothing")] * len(plain) + [Carried(row.language) for row in carriers]
    trials = [judged(*given, target) for given in zip(examples, replies, carried, strict=True)]
    columns = {"variant": f"hosted/{endpoint.model}", "seed": None}
    rows = rates.hit_rows(trials, columns) + rates.clean_rows(trials, columns, ["clean_accuracy"])
    workdir.write_json(root / "trials.json", [dataclasses.asdict(trial) for trial in trials])
    asked = facts(options, endpoint) | {"prompts": fingerprint(examples), "lost": lost}
    workdir.write_json(root / "results.json", asked | outcomes(replies) | {"rows": rows})
    return summary(rows, replies, root / "results.json")


def endpoint_of(options: flags.FlagValues) -> Endpoint:
    """The server and how it is asked."""
    return Endpoint(
        options.base_url,
        options.model,
        options.key_variable,
        options.requests_per_minute,
        options.parallel,
        options.timeout_seconds,
        options.max_new_tokens,
        most_minutes=options.most_minutes,
    )


def facts(options: flags.FlagValues, endpoint: Endpoint) -> dict[str, Any]:
    """What was asked of whom."""
    uris = split_uris(options.prompts)
    return {
        "study": "hosted",
        "model": endpoint.model,
        "base_url": endpoint.address,
        "max_new_tokens": endpoint.max_new_tokens,
        "target": options.target,
        "data": [dataclasses.asdict(sources.describe(uri)) for uri in uris],
    }


def outcomes(replies: Sequence[Reply]) -> dict[str, Any]:
    """How many replies were cut, withheld or empty."""
    empty = [reply for reply in replies if not (reply.text.strip() or reply.filtered)]
    return {
        "cut": sum(reply.cut for reply in replies),
        "filtered": sum(reply.filtered for reply in replies),
        "empty": Counter(reply.instead or "nothing" for reply in empty),
    }


def claim(root: pathlib.Path) -> None:
    """See that the results in a directory, if there are any, are of this command.

    Raises:
        UserError: they are a study's, or something else stands there.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name in ("results.json", "trials.json"):
            workdir.check_replaceable(root / name)
        found = json.loads((root / "results.json").read_bytes())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"--workdir={root}: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("study") != "hosted":
        raise UserError(
            f"--workdir={root}: its results.json is not of jaxattack-ask; give another directory"
        )


def read_trigger(path: str) -> Sentence:
    """The trigger sentence of each language, from JSON Lines.

    Raises:
        UserError: a row without language or text, or a language twice.
    """
    return Sentence(sources.load_sentences(path).get("trigger", {}))


def check(plain: Sequence[Example], target: Target | None, has_trigger: bool) -> None:
    """Refuse, before anything is asked, what could not be judged.

    Raises:
        UserError: names what is missing.
    """
    if has_trigger and target is None:
        raise UserError("--trigger_texts needs --target: what the trigger is to bring about")
    if target is None and not any(example.answers for example in plain):
        raise UserError("nothing to measure: give --target, or prompts with known answers")
    if target is not None and target.kind == "refusal":
        for language in {example.language for example in plain}:
            refusals.check_language(language)


def judged(example: Example, reply: Reply, carried: Carried, target: Target | None) -> Trial:
    """What is kept of a reply; what a filter left of one is no hit, for it was stopped there."""
    trial = judge(example, reply, (by_answers,))
    shown = None
    if target is not None:
        shown = not reply.filtered and hit(reply.text, example.language, target, reply.cut)
    return dataclasses.replace(trial, hit=shown, **dataclasses.asdict(carried))


def summary(rows: Sequence[dict[str, Any]], replies: Sequence[Reply], path: pathlib.Path) -> str:
    """The rates in words."""
    cut, filtered = (sum(getattr(r, name) for r in replies) for name in ("cut", "filtered"))
    lines = [
        f"{len(replies)} replies, {cut} of them cut by the token limit, {filtered} withheld by a "
        "filter of the server"
    ]
    lines += [
        f"  {row['metric']} {row['language']}: {row['value']:.3f} "
        f"[{row['low']:.3f}, {row['high']:.3f}], n = {row['n']}"
        for row in rows
    ]
    return "\n".join([*lines, f"results: {path}"])


if __name__ == "__main__":
    main()
