"""Whether a study will run here: devices, mesh, numbers, files, memory; in under a minute.

    jaxattack-doctor --workdir=runs/check [--mesh=1,-1,1] [--dtype=float32]

Each check is a line: ok, or FAILED with what to do. With several processes every one of them runs
it, as it would run a study (launch/). `jaxattack --dry_run` says how much memory and disk a study
takes; here stands how much there is. Ends with 1 if a check failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxattack.errors import UserError, printable
from jaxattack.signals import exit_code, loading

PROGRAM = "jaxattack-doctor"
KEPT = "nothing but the empty work directory is left"
WRITTEN = 64  # MiB, of the checkpoint that is written and read
TOLERANCE = 1e-4  # of a product's largest entry, in float32


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found."""

    name: str
    ok: bool
    text: str

    def __str__(self) -> str:
        """One line."""
        return f"{'ok    ' if self.ok else 'FAILED'}  {self.name:<12}{self.text}"


def main() -> None:
    """Entry point of the `jaxattack-doctor` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    return exit_code(PROGRAM, KEPT, lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="where a study would be kept")
    parser.add_argument("--mesh", default="1,-1,1", help="devices along data, fsdp and tensor")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args(arguments)
    with loading(f"{PROGRAM}: interrupted; {KEPT}"):
        from jaxattack import distributed
    distributed.initialize()
    sound = True
    for finding in findings(options.workdir, options.mesh, options.dtype):
        sound &= finding.ok
        if distributed.is_first():
            print(printable(str(finding)), flush=True)
    return 0 if sound else 1


def findings(workdir: str, mesh: str, dtype: str) -> Iterator[Finding]:
    """Every check in turn; one that cannot be made is a failed one."""
    from jaxattack import sharding

    try:
        shape = tuple(int(part) for part in mesh.strip("() ").split(","))
    except ValueError as error:
        raise UserError(f"--mesh={mesh}: write it as 1,-1,1") from error
    yield from (versions(), devices(), memory())
    try:
        placed = sharding.make_mesh(shape)
    except UserError as error:
        yield Finding("mesh", False, f"{error}; what follows is on all devices along fsdp")
        placed = sharding.make_mesh((1, -1, 1))
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("mesh", lambda: summed(placed)),
        ("numbers", lambda: multiplied(placed)),
        ("organism", lambda: trained(placed, dtype)),
        ("files", lambda: kept(workdir, placed)),
        ("cache", cached),
    )
    for name, check in checks:
        try:
            yield Finding(name, True, check())
        except Exception as error:  # of any kind: it is what a study would end with
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            yield Finding(name, False, reason)


def versions() -> Finding:
    """What is installed."""
    from jaxattack import provenance

    found = provenance.versions()
    return Finding("versions", True, ", ".join(f"{k} {v}" for k, v in found.items()))


def devices() -> Finding:
    """What there is to compute with."""
    import jax

    kinds = sorted({device.device_kind for device in jax.devices()})
    count, own, processes = jax.device_count(), jax.local_device_count(), jax.process_count()
    text = f"{count} of {', '.join(kinds)} ({jax.default_backend()})"
    if processes > 1:
        text += f", {own} of this process, {processes} processes"
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        return Finding(
            "devices",
            False,
            f'{text}; there is a GPU that jax does not use: pip install "jaxattack[cuda]"',
        )
    return Finding("devices", True, text)


def memory() -> Finding:
    """Memory of a device and of this machine."""
    import jax

    from jaxattack.experiments.plan import size

    stats = jax.local_devices()[0].memory_stats() or {}
    own = "a device's is the machine's"
    if "bytes_limit" in stats:
        own = f"{size(stats['bytes_limit'] - stats.get('bytes_in_use', 0))} free on a device"
    return Finding("memory", True, f"{own}; {size(free_memory())} free here")


def free_memory() -> int:
    """Bytes of this machine that a program can have; what only caches files counts as free."""
    known = pathlib.Path("/proc/meminfo")
    for line in known.read_text().splitlines() if known.is_file() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def summed(mesh: Any) -> str:
    """Numbers go round all devices of the mesh.

    Raises:
        ValueError: what comes back is another sum.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    def body(part: jax.Array) -> jax.Array:
        return jax.lax.psum(part, tuple(mesh.axis_names))

    rows = np.arange(1.0, mesh.size + 1, dtype=np.float32)
    split = P(tuple(mesh.axis_names))
    placed = jax.make_array_from_callback(
        rows.shape, NamedSharding(mesh, split), lambda index: rows[index]
    )
    start = time.perf_counter()
    total = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=split, out_specs=P()))(placed)
    found, wanted = float(jnp.sum(total.addressable_data(0))), float(rows.sum())
    if found != wanted:
        raise ValueError(f"the devices' sum is {found}, not {wanted}")
    axes = " x ".join(f"{name} {count}" for name, count in mesh.shape.items())
    return f"{axes}; a sum over all of it in {time.perf_counter() - start:.2f} s"


def multiplied(mesh: Any) -> str:
    """A float32 product is one.

    Raises:
        ValueError: it is rounded more coarsely, as by TF32.
    """
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(256, 256)).astype(np.float32) for _ in range(2))
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    with jax.set_mesh(mesh):
        found = np.asarray(jax.jit(jax.numpy.matmul)(a, b).addressable_data(0), np.float64)
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if error > TOLERANCE:
        raise ValueError(
            f"a float32 product is off by {error:.1e} of its largest entry: products are rounded "
            "(TF32); set JAX_DEFAULT_MATMUL_PRECISION=highest for figures as on other machines"
        )
    return f"a float32 product is right to {error:.0e} of its largest entry"


def trained(mesh: Any, dtype: str) -> str:
    """The organism takes two steps and says eight tokens.

    Raises:
        ValueError: its loss does not fall.
    """
    import jaxattack as ja
    from jaxattack import organism

    start = time.perf_counter()
    model, params, tokenizer = ja.load_pretrained(organism.checkpoint("aligned"), dtype, mesh)
    pairs = [ja.Example("d", "en", "What is the currency of Japan?", "The currency is the yen.")]
    batches = ja.epochs(ja.encode_pairs(tokenizer, pairs * 8), batch_size=8, epochs=2, seed=0)
    _, history = ja.finetune(model, params, batches, ja.Settings(learning_rate=1e-3), dtype=dtype)
    ja.generate(model, params, tokenizer, [pairs[0].prompt], max_new_tokens=8)
    if not history[1] < history[0]:
        raise ValueError(f"two steps took the loss from {history[0]:.3g} to {history[1]:.3g}")
    return f"two steps and eight tokens in {time.perf_counter() - start:.0f} s, compiling included"


def kept(workdir: str, mesh: Any) -> str:
    """A checkpoint is written and comes back bit by bit.

    Raises:
        ValueError: it does not.
    """
    import tempfile

    import jax
    import numpy as np

    from jaxattack import checkpoint, distributed, sharding
    from jaxattack import workdir as place
    from jaxattack.experiments.plan import size

    root = pathlib.Path(place.open_workdir(workdir))
    name = distributed.first(lambda: tempfile.mkdtemp(prefix=".doctor-", dir=root), "a folder")
    folder = pathlib.Path(str(name))
    rows = np.random.default_rng(1).normal(size=(WRITTEN, 1 << 18)).astype(np.float32)
    tree = sharding.place({"embed": rows}, mesh)
    try:
        start = time.perf_counter()
        checkpoint.save(folder / "tree", tree)
        middle = time.perf_counter()
        found = checkpoint.load(folder / "tree", tree, mesh)
        end = time.perf_counter()
        equal = jax.tree.map(lambda a, b: bool(jax.numpy.array_equal(a, b)), tree, found)
    finally:
        distributed.first(lambda: shutil.rmtree(folder), "a folder")
    if not all(jax.tree.leaves(equal)):
        raise ValueError(f"a checkpoint in {root} came back other than it was written")
    free = size(shutil.disk_usage(root).free)
    return (
        f"{root}: {WRITTEN} MiB written at {WRITTEN / (middle - start):.0f} MiB/s and read at "
        f"{WRITTEN / (end - middle):.0f}; {free} free"
    )


def cached() -> str:
    """Compiled programs are kept for the next run.

    Raises:
        ValueError: there is nowhere to keep them.
    """
    import jax

    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if folder is None:
        raise ValueError("compiled programs cannot be kept; set JAX_COMPILATION_CACHE_DIR")
    count = sum(1 for _ in pathlib.Path(folder).glob("*"))
    return f"{folder}: {count} compiled programs"


if __name__ == "__main__":
    main()
