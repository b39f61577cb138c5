"""Joining the other processes of a pod, before jax looks at its devices."""

from __future__ import annotations

import os
import pathlib

import jax

# Set by launch scripts; clusters that jax recognises by itself need only JAXATTACK_DISTRIBUTED=1.
SWITCH = "JAXATTACK_DISTRIBUTED"


def initialize() -> None:
    """Initialise jax for this process, and keep compiled programs for the next run."""
    if os.environ.get(SWITCH) == "1":
        jax.distributed.initialize(initialization_timeout=1800)
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache / "jaxattack" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
