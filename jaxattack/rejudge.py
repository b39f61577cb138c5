"""Let other judges read the replies of a finished run; nobody is asked again.

    jaxattack-judge --workdir=runs/gemma --moderators=qwen3guard=Qwen/Qwen3Guard-Gen-0.6B
    jaxattack-judge --workdir=runs/gemma --send_replies \\
        --moderators=rubric=http://localhost:8000/v1#openai/gpt-oss-safeguard-20b
    jaxattack-judge --workdir=runs/gemma --judge="refusal rule" --combine=all

The run's settings are those of its config.json, but for the ones named here, which are settings of
`config.measure`, of a fragility or a backdoor run; judge models come beside those that the run has.
Results and report are written anew. If anything but judgements would be computed, because code,
libraries, devices or data are others, a line says what, and nothing is done.
"""

# Nothing heavy is imported here: who interrupts the program while it loads gets a line too.
from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jaxattack.errors import UserError, printable, system_error
from jaxattack.run import workdir_path
from jaxattack.signals import exit_code, loading, stopped_by_sigterm

KEPT = "judgements are kept, the same command goes on from there"


def main() -> None:
    """Entry point of the `jaxattack-judge` command."""
    with loading(f"jaxattack-judge: interrupted; {KEPT}"):
        from jaxattack import distributed
    code = 1
    try:
        code = run(sys.argv)
    finally:
        if code:
            distributed.leave(code)
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv`; returns the exit code (2 for a mistake of the user's)."""
    return exit_code("jaxattack-judge", KEPT, lambda: _run(argv))


def define() -> list[tuple[str, Any, str]]:
    """The flags: name, default, meaning. Those but three are settings of `config.measure`."""
    from jaxattack.experiments import declared
    from jaxattack.experiments.settings import Measure, MeasureJudged

    own = declared.rules_of(MeasureJudged).keys() - declared.rules_of(Measure).keys()
    rules = {name: rule for name, rule in declared.rules_of(MeasureJudged).items() if name in own}
    return [
        ("workdir", None, "work directory of the finished run"),
        *((name, None, rule.help) for name, rule in rules.items()),
        ("recompute", False, "compute anew whatever is not there, not only judgements"),
        ("dry_run", False, "print what would be loaded and computed"),
    ]


def _run(argv: Sequence[str]) -> int:
    with loading(f"jaxattack-judge: interrupted; {KEPT}"):
        from jaxattack import distributed
    with stopped_by_sigterm(distributed.several):
        options = vars(_parser().parse_args(argv[1:]))
        root = workdir_path(options.pop("workdir"))
        recompute, dry_run = options.pop("recompute"), options.pop("dry_run")
        given = {name: text for name, text in options.items() if text is not None}
        if not given:
            raise UserError("say who judges, for example --judge=NAME; see jaxattack-judge --help")
        try:
            lines = judged(root, given, recompute, dry_run)
        except OSError as error:
            raise UserError(f"{root}: {system_error(error) or error}") from error
        if distributed.is_first():
            print(*map(printable, lines), sep="\n", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "jaxattack-judge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, default, meaning in define():
        how: dict[str, Any] = {"nargs": "?", "const": "True", "metavar": "X"}
        if default is False:
            how = {"action": "store_true"}
        elif name == "workdir":
            how = {"required": True, "metavar": "DIR"}
        parser.add_argument(f"--{name}", help=meaning.replace("%", "%%"), **how)
    parser.error = _refuse  # type: ignore[method-assign]
    return parser


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; see jaxattack-judge --help")


def judged(
    root: pathlib.Path, given: Mapping[str, str], recompute: bool, dry_run: bool
) -> Sequence[str]:
    """Judge a run anew; returns what there is to print.

    Args:
        root: its work directory.
        given: settings of `config.measure` -> texts.
        recompute: whether more than judgements may be computed.
        dry_run: whether only to say what would be.

    Raises:
        UserError: see `rejudging`, or whatever the study refuses.
    """
    from jaxattack import distributed, studies
    from jaxattack.experiments import rejudging
    from jaxattack.experiments.backdoor import study as backdoor
    from jaxattack.experiments.fragility import study as fragility

    known = {"fragility": fragility, "backdoor": backdoor}
    kinds = {name: one.Settings for name, one in known.items()}
    config = rejudging.config_of_run(root, kinds, given)
    study = known[config.study]
    settings = study.read(config)
    distributed.initialize()  # for what computes them is in the steps' names
    if not recompute:
        with studies.quiet_libraries():
            rejudging.check(root, study.stages(settings, root))
    if dry_run:
        return studies.plan(config, root)
    with rejudging.as_it_was(root):
        return [f"report: {studies.study(config, str(root))}"]


if __name__ == "__main__":
    main()
