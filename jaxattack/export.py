"""A finished run as files that other tools read.

    jaxattack-export runs/quickstart --format=inspect --out=logs    # inspect view --log-dir logs
    jaxattack-export runs/quickstart --format=lm-eval --out=exported

inspect: a log for each model that was asked, a sample for each reply, with its flags; needs
`pip install 'jaxattack[inspect]'`. lm-eval: results.json as lm-evaluation-harness lays it out.
Prompts and replies are left out; --texts puts them in where the run shows them
(--config.report.replies=True).
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from jaxattack.errors import UserError, printable
from jaxattack.signals import exit_code, loading

KEPT = "files that are written stay"


def main() -> None:
    """Entry point of the `jaxattack-export` command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=pathlib.Path, help="work directory")
    parser.add_argument("--format", required=True, choices=("inspect", "lm-eval"))
    parser.add_argument("--out", required=True, type=pathlib.Path, help="an empty or new folder")
    parser.add_argument("--texts", action="store_true", help="with prompts and replies")
    options = parser.parse_args()
    sys.exit(exit_code("jaxattack-export", KEPT, lambda: _written(options)))


def _written(options: argparse.Namespace) -> int:
    with loading():
        from jaxattack.experiments import runs
        from jaxattack.experiments.export import inspect_logs, lm_eval_json
    run, out = runs.read(options.run), options.out
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise UserError(f"--out={out} is no empty folder; name a new one")
    if options.texts and options.format == "lm-eval":
        raise UserError("--texts goes with --format=inspect; results of lm-eval have no texts")
    if options.texts and not run.results.get("replies"):
        raise UserError(
            f"{options.run} shows no texts: run it with --config.report.replies=True first"
        )
    if options.format == "lm-eval":
        print(printable(str(lm_eval_json.write(run, out))))
        return 0
    count = sum(1 for _ in inspect_logs.write(run, out, options.texts))
    print(printable(f"{count} logs in {out}; inspect view --log-dir {out}"))
    return 0


if __name__ == "__main__":
    main()
