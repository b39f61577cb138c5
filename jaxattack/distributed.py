"""Several processes as one program: joining them, and what only the first of them does.

Every process runs the same program on the same data and holds a part of every array. All see one
work directory; files other than checkpoints are written there by the first process.
"""

from __future__ import annotations

import json
import logging
import os
import pathlib
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxattack.errors import UserError

# Set by launch scripts; clusters that jax recognises by itself need only JAXATTACK_DISTRIBUTED=1.
SWITCH = "JAXATTACK_DISTRIBUTED"
# For other machines all three: host:port of the first process, how many there are, which this is.
EXPLICIT = ("JAXATTACK_COORDINATOR", "JAXATTACK_PROCESSES", "JAXATTACK_PROCESS")

_MESSAGE = 4096  # bytes of an outcome that processes tell each other

T = TypeVar("T")


def initialize() -> None:
    """Initialise jax for this process, and keep compiled programs for the next run.

    Raises:
        UserError: the environment tells only half of how to join the others.
    """
    if os.environ.get(SWITCH) == "1" and not jax.distributed.is_initialized():
        _join()
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache / "jaxattack" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _join() -> None:
    address, count, index = (os.environ.get(name, "") for name in EXPLICIT)
    told: dict[str, Any] = {}
    if address or count or index:
        if not (address and count.isdecimal() and index.isdecimal()):
            raise UserError(f"{SWITCH}=1: set all of {', '.join(EXPLICIT)} or none")
        told = {"coordinator_address": address, "num_processes": int(count),
                "process_id": int(index), "cluster_detection_method": "deactivate"}  # fmt: skip
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # The service would swallow SIGTERM, by which schedulers and launch scripts stop us.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(initialization_timeout=1800, **told)


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
