"""Finished runs beside each other, on one page and in flat tables.

    jaxattack-compare runs/gemma runs/smollm2 --out=compare.html

The first run is what the others are held against: where both were asked the same prompts the
comparison is paired. What keeps runs from being compared, another judge, other prompts or settings,
is said first. Runs that differ in their checkpoint alone have the study's claims over all
checkpoints too. Beside the page lie compare.parquet, the rows of all runs, and
compare-differences.parquet.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from jaxattack.errors import printable
from jaxattack.signals import exit_code, loading

KEPT = "nothing was kept"


def main() -> None:
    """Entry point of the `jaxattack-compare` command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="work directories")
    parser.add_argument("--out", default="compare.html", type=pathlib.Path, help="the page")
    options = parser.parse_args()
    sys.exit(exit_code("jaxattack-compare", KEPT, lambda: _written(options)))


def _written(options: argparse.Namespace) -> int:
    with loading():
        from jaxattack.experiments.compare import study
    for path in study.write(options.runs, options.out):
        print(printable(str(path)))
    return 0


if __name__ == "__main__":
    main()
