r"""Many workers at one study on a cluster: submitted as one array, or printed for Kubernetes.

    jaxattack-cluster --executor=slurm --workers=8 --slurm.partition=gpu --slurm.gpus_per_node=1 \
        -- --config=quickstart --workdir=/shared/runs/mine
    jaxattack-cluster --print=kueue --workers=8 --image=registry/jaxattack --gpus=1 --queue=lab \
        --volume=claim:/shared -- --config=quickstart --workdir=/shared/runs/mine

Behind -- are the arguments of jaxattack. All workers have the same and settle by leases in the work
directory who computes what; {index} and {workers} in them are a worker's number and how many there
are, for --share={index}/{workers}.
"""

# Nothing heavy is imported here: who interrupts the program while it loads gets a line too.
from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from jaxattack import jobs
from jaxattack.errors import UserError, printable
from jaxattack.signals import exit_code, loading, stopped_by_sigterm

MOST_HOURS = 10_000
EXECUTORS = ("local", "debug", "slurm")
KEPT = "workers that were submitted go on"
# Parameters that submitit knows for every cluster; others are Slurm's.
GENERAL = ("name", "nodes", "tasks_per_node", "gpus_per_node", "cpus_per_task", "mem_gb")


def main() -> None:
    """Entry point of the `jaxattack-cluster` command."""
    sys.exit(run(sys.argv))


def run(argv: Sequence[str]) -> int:
    """Run the command line `argv`; returns the exit code (2 for a mistake of the user's)."""
    return exit_code("jaxattack-cluster", KEPT, lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    with loading(f"jaxattack-cluster: interrupted; {KEPT}"):
        from jaxattack import manifests
        from jaxattack.commandline import read_flags
    own, theirs = _parted(argv[1:])
    slurm = dict(_slurm(argument) for argument in own if argument.startswith("--slurm."))
    others = [argument for argument in own if not argument.startswith("--slurm.")]
    options = _parser(manifests.PRINTERS).parse_args(others)
    if not 1 <= options.workers <= jobs.MOST:
        raise UserError(f"--workers={options.workers}: between 1 and {jobs.MOST}")
    if not 0 < options.hours <= MOST_HOURS:
        raise UserError(f"--hours={options.hours:g}: above 0, at most {MOST_HOURS}")
    last = options.workers - 1
    flags = read_flags(jobs.numbered(theirs, str(last), options.workers))
    if not flags.config or not flags.workdir:
        raise UserError("behind -- come jaxattack's --config=FILE and --workdir=DIR")
    if flags.share and ("{index}" not in "".join(theirs) or flags.share != (last, last + 1)):
        raise UserError("every share needs its worker: write --share={index}/{workers}")
    if options.print:
        if slurm:
            raise UserError("--slurm.NAME goes with --executor=slurm")
        manifests.check_shared(options, flags.workdir, flags.share)
        print(manifests.PRINTERS[options.print](options, theirs), end="", flush=True)
        return 0
    with stopped_by_sigterm(lambda: False):
        return submit(options, slurm, theirs, pathlib.Path(flags.workdir).expanduser())


def submit(
    options: argparse.Namespace, slurm: dict[str, Any], theirs: Sequence[str], root: pathlib.Path
) -> int:
    """Submit the workers; returns 0, or when they were waited for what they ended with.

    Raises:
        UserError: submitit or its cluster is not there, or it refuses the parameters.
    """
    if slurm and options.executor != "slurm":
        raise UserError("--slurm.NAME goes with --executor=slurm")
    try:
        import submitit
    except ImportError as error:
        raise UserError("install submitit: pip install 'jaxattack[cluster]'") from error
    logs = root / jobs.LOGS / "%j"
    try:
        executor = submitit.AutoExecutor(logs, cluster=options.executor)
        executor.update_parameters(
            **{"name": "jaxattack", "timeout_min": round(60 * options.hours), **slurm}
        )
        numbered = [jobs.numbered(theirs, str(n), options.workers) for n in range(options.workers)]
        workers = executor.map_array(jobs.work, [jobs.command(own) for own in numbered])
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise UserError(f"--executor={options.executor}: {error}") from error
    for job in workers:
        print(printable(f"job {job.job_id}: {job.paths.stdout}, {job.paths.stderr}"), flush=True)
    if options.executor == "slurm":
        first = str(workers[0].job_id).partition("_")[0]
        print(f"follow: squeue -j {first}; stop: scancel {first}", flush=True)
    return _ended(workers) if options.wait or options.executor == "debug" else 0


def _ended(workers: Sequence[Any]) -> int:
    """Wait for all; 0 if one finished the study."""
    finished = 0
    for job in workers:
        error = job.exception()  # a debug job runs now, and what it says is seen
        finished += error is None
        if error is not None:
            said = (job.stderr() or str(error)).partition("submitit ERROR")[0]  # then its trace
            lines = [f"job {job.job_id} failed:", *said.splitlines()[-jobs.LAST :]]
            print(*map(printable, lines), sep="\n  ", file=sys.stderr, flush=True)
    print(f"{finished} of {len(workers)} workers came to the end", flush=True)
    return 0 if finished else 1


def _parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our arguments, and behind `--` those of jaxattack, which may be named."""
    if "--" not in arguments:
        return list(arguments), []
    at = list(arguments).index("--")
    theirs = list(arguments[at + 1 :])
    return list(arguments[:at]), theirs[1:] if theirs[:1] == ["jaxattack"] else theirs


def _slurm(argument: str) -> tuple[str, Any]:
    name, given, text = argument.removeprefix("--slurm.").partition("=")
    if not given or not name:
        raise UserError(f"{argument} has no value; write --slurm.NAME=VALUE")
    return name if name in GENERAL else f"slurm_{name}", int(text) if text.isdecimal() else text


def _parser(printers: Iterable[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "jaxattack-cluster",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--workers", type=int, required=True, metavar="N", help="how many")
    add("--executor", choices=EXECUTORS, default="local", help="who runs them, by submitit")
    add("--hours", type=float, default=12.0, metavar="X", help="how long each may run")
    add("--wait", action="store_true", help="until all came to their end")
    add("--print", choices=tuple(printers), help="submit nothing: YAML")
    add("--image", metavar="NAME", help="of --print: a container with jaxattack")
    add("--name", default="jaxattack", help="of --print: of the job")
    add("--queue", metavar="NAME", help="of --print: Kueue's local queue")
    add("--gpus", type=int, default=0, metavar="N", help="of --print: a worker's NVIDIA GPUs")
    add("--accelerators", metavar="X", help="of --print=skypilot: a worker's, such as H100:1")
    add("--volume", metavar="X:DIR", help="of --print: a claim or bucket, and where it is mounted")
    add(
        "--slurm.NAME",
        metavar="X",
        dest="slurm",
        help="of --executor=slurm: partition, account, ...",
    )
    parser.error = _refuse  # type: ignore[method-assign]
    return parser


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; see jaxattack-cluster --help")


if __name__ == "__main__":
    main()
