"""Several processes as one program: joining them, and what only the first of them does.

Every process runs the same program on the same data and holds a part of every array. All see one
work directory; files other than checkpoints are written there by the first process.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxlib import _jax

from jaxattack.errors import UserError

# Set by launch scripts; clusters that jax recognises by itself need only JAXATTACK_DISTRIBUTED=1.
SWITCH = "JAXATTACK_DISTRIBUTED"
# For other machines all three: host:port of the first process, how many there are, which this is.
EXPLICIT = ("JAXATTACK_COORDINATOR", "JAXATTACK_PROCESSES", "JAXATTACK_PROCESS")

TIMEOUT = "JAXATTACK_TIMEOUT"  # seconds that the processes wait for each other in the beginning

_ON, _OFF = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
_MOST = 1_000_000  # processes
_MESSAGE = 4096  # bytes of an outcome that processes tell each other

T = TypeVar("T")


def initialize() -> None:
    """Initialise jax for this process, and keep compiled programs for the next run.

    Raises:
        UserError: the environment tells only half of how to join the others, they do not come,
            or there is no such device.
    """
    joins, told = check_environment()
    _check_flags(os.environ.get("XLA_FLAGS", ""))
    if joins and not jax.distributed.is_initialized():
        _join(told)
    check_devices()
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = _cache()
        if cache is not None:
            jax.config.update("jax_compilation_cache_dir", str(cache))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def check_environment() -> tuple[bool, dict[str, Any]]:
    """Whether this process joins others, and what the environment tells of them.

    Raises:
        UserError: it tells only half of it, or what cannot be.
    """
    switch = os.environ.get(SWITCH, "").strip().lower()
    if switch not in (*_ON, *_OFF):
        raise UserError(f"{SWITCH} is {switch!r}; set it to 1, or leave it out")
    given = {name: os.environ.get(name, "") for name in EXPLICIT}
    if switch in _OFF:
        named = [name for name, value in given.items() if value]
        if named:
            raise UserError(f"{named[0]} is set, but not {SWITCH}=1; set both or none")
        _check_slurm()
        return False, {}
    if not any(given.values()):
        return True, {}
    if not all(given.values()):
        raise UserError(f"{SWITCH}=1: set all of {', '.join(EXPLICIT)} or none")
    address, count, index = given.values()
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(
            f"{EXPLICIT[0]} is {address!r}; set all of {', '.join(EXPLICIT)}: the first is "
            "host:port, a port between 1 and 65535"
        )
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count) <= _MOST):
        raise UserError(
            f"{EXPLICIT[1]} is {count!r} and {EXPLICIT[2]} {index!r}; set all of "
            f"{', '.join(EXPLICIT)}: how many processes there are, and which this is, from 0"
        )
    return True, {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(index),
        "cluster_detection_method": "deactivate",
    }


def _check_slurm() -> None:
    """Refuse to be one of several tasks of Slurm that know nothing of each other."""
    count, index = (os.environ.get(f"SLURM_{name}", "") for name in ("STEP_NUM_TASKS", "PROCID"))
    if (count.isdecimal() and int(count) > 1) or (index.isdecimal() and int(index) > 0):
        raise UserError(
            f"Slurm started several tasks, each of which would run alone; set {SWITCH}=1 for them "
            "to join, or start one (--ntasks=1)"
        )


def _join(told: dict[str, Any]) -> None:
    limit = os.environ.get(TIMEOUT, "1800")
    if not limit.isdecimal() or not 0 < int(limit) <= 86_400:
        raise UserError(f"{TIMEOUT} is {limit!r}; it should be seconds, between 1 and 86400")
    if told:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        if told["coordinator_address"].rpartition(":")[0] in ("localhost", "127.0.0.1"):
            told = told | _loopback(told["coordinator_address"])
    # The service would swallow SIGTERM, by which schedulers and launch scripts stop us.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(initialization_timeout=int(limit), **told)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, KeyError):
            reason = f"the environment lacks {error.args[0]}"
        raise UserError(
            f"{SWITCH}=1, but the other processes could not be joined ({reason}); start it by your "
            f"cluster's launcher, or set {', '.join(EXPLICIT)}; {TIMEOUT} limits the wait"
        ) from error
    if not told and _has_node() and "JAX_LOCAL_DEVICE_IDS" not in os.environ:
        # Under Slurm jax gives every process one GPU, that of its number on the node.
        jax.config.update("jax_cuda_visible_devices", "all")
        jax.config.update("jax_rocm_visible_devices", "all")


def _has_node() -> bool:
    """Whether Slurm started one task on every node, to which all its devices belong."""
    counts = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    return re.fullmatch(r"1(\(x\d+\))?(,1(\(x\d+\))?)*", counts) is not None


@functools.lru_cache(maxsize=1)
def _check_flags(flags: str) -> None:
    if not flags:
        return
    # XLA ends the process that gives it a wrong flag: another one tries.
    probe = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )
    unknown = re.search(r"Unknown flags? in XLA_FLAGS: ([^\n]*)", probe.stderr)
    if unknown is not None:
        raise UserError(f"XLA_FLAGS has flags that XLA does not know: {unknown[1].strip()}")


def _loopback(address: str) -> dict[str, Any]:
    """Let processes of one machine be heard by no other."""
    # The coordinator and the processes' exchanges would listen where all can reach them; for the
    # second, jax passes no option on.
    make = getattr(_jax, "make_gloo_tcp_collectives", None)
    if make is not None and not isinstance(make, functools.partial):
        _jax.make_gloo_tcp_collectives = functools.partial(make, hostname="127.0.0.1")
    return {"coordinator_bind_address": "127.0.0.1:" + address.rpartition(":")[2]}


def check_devices() -> None:
    """See that jax has its devices.

    Raises:
        UserError: it has not, or XLA was given a flag that does not exist.
    """
    _check_flags(os.environ.get("XLA_FLAGS", ""))
    try:
        jax.devices()
    except Exception as error:
        named = os.environ.get("JAX_PLATFORMS")
        reason = f" ({' '.join(str(error).split())[:300]})" if str(error) else ""
        hint = f"JAX_PLATFORMS is {named!r}: " if named else ""
        raise UserError(f"{hint}jax has no device to run on{reason}") from error


def _cache() -> pathlib.Path | None:
    """Where compiled programs are kept; None if nothing can be kept."""
    try:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        cache = home / "jaxattack" / "xla"
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return cache
    except (OSError, RuntimeError):  # no home, or not ours to write
        return None


def several() -> bool:
    """Whether this is one of several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process speaks for all: it writes files and draws progress bars."""
    return not several() or jax.process_index() == 0


def first(act: Callable[[], T], label: str) -> T:
    """Let the first process act when all have come here; all go on with what it returns.

    Args:
        act: returns a JSON value, of less than 4 KB when there are several processes.
        label: what is done. Processes that meet here with different labels end with an error.

    Raises:
        RuntimeError: in the other processes, if `act` failed in the first.
    """
    if not several():
        return act()
    multihost_utils.sync_global_devices(label)
    outcome: dict = {}
    failure = None
    if is_first():
        try:
            outcome = {"value": act()}
        except BaseException as error:
            outcome, failure = {"error": f"{type(error).__name__}: {error}"[:500]}, error
    outcome = _from_first(outcome)
    if failure is not None:
        raise failure
    if "error" in outcome:
        raise RuntimeError(f"{label}: the first process failed with {outcome['error']}")
    return outcome["value"]


def _from_first(outcome: dict) -> dict:
    text = json.dumps(outcome).encode()
    if len(text) > _MESSAGE:
        raise ValueError(f"an outcome of {len(text)} bytes; at most {_MESSAGE} are passed on")
    padded = np.frombuffer(text.ljust(_MESSAGE), np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(padded).tobytes())


def leave(code: int) -> None:
    """End this process after a failure, without waiting for the others as a normal exit would.

    The others may wait in an exchange that this process will never come to. They see its
    connection break, or miss its heartbeat after 100 seconds, and end too. Does nothing if this
    process joined no others.
    """
    if not jax.distributed.is_initialized():
        return
    if sys.exc_info()[0] is not None:
        traceback.print_exc()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
