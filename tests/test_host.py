"""Memory of the process: a training must not grow with its steps."""

import os
import re
import subprocess
import sys

import pytest

from jaxattack import host

# Steps of a model whose arrays are above what the C library keeps for itself. The resident memory
# in MB swings by two arrays as a step runs beside the reading of it: the largest of the first and
# of the last third of the steps.
STEPS = """
import jax, numpy as np
from jaxattack.train.loop import Settings, finetune
params = {"embed": np.zeros((4096, 4096), np.float32)}
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6
seen = []
def batches():
    for step in range(30):
        seen.append(resident())
        yield {"x": np.ones(8, np.float32)}
def loss(model, params, batch):
    return (batch["x"].sum() - params["embed"]).sum() ** 2 * 1e-12
class Batches(list):
    def __iter__(self):
        return batches()
finetune(None, params, Batches([0] * 30), Settings(1e-3), None, loss)
print(max(seen[:10]), max(seen[20:]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_steps():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    early, late = (float(word) for word in re.findall(r"[\d.]+", done.stdout))
    assert late < early + 100  # one array has 67 MB


SAYS = """
import os, sys
from jaxattack import host
host.ask_for_huge_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:])
"""


@pytest.mark.skipif(not host._on_request(), reason="huge pages are not given on request here")
@pytest.mark.parametrize("told", ["", "glibc.malloc.check=0", "glibc.malloc.hugetlb=0"])
def test_a_process_begins_anew_once_and_keeps_its_arguments(told):
    env = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-c", SAYS, "--workdir=a b", "--config.seeds=(0,)"]
    with subprocess.Popen(
        command, env=env | {"GLIBC_TUNABLES": told}, stdout=subprocess.PIPE, text=True
    ) as process:
        said = process.communicate()[0]
    wanted = told if "hugetlb" in told else ":".join(filter(None, (told, "glibc.malloc.hugetlb=1")))
    assert said == f"{process.pid} {wanted} --workdir=a b --config.seeds=(0,)\n"


@pytest.mark.parametrize(
    ("library", "pages"),
    [
        ("glibc 2.34", "always [madvise] never"),
        ("musl 1.2", "always [madvise] never"),
        (None, "always [madvise] never"),
        ("glibc 2.36", "[always] madvise never"),
        ("glibc 2.36", None),
    ],
)
def test_where_there_is_nothing_to_ask_for_nothing_is_done(monkeypatch, tmp_path, library, pages):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.delitem(host.sys.modules, "jax", raising=False)
    monkeypatch.setattr(host.os, "confstr", lambda name: library)
    monkeypatch.setattr(host, "_PAGES", tmp_path / "enabled")
    if pages:
        (tmp_path / "enabled").write_text(pages)
    monkeypatch.setattr(host.os, "execv", lambda *_: pytest.fail("began anew"))
    host.ask_for_huge_pages()


def test_a_program_that_has_jax_is_not_begun_anew(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(host, "_on_request", lambda: True)
    monkeypatch.setitem(host.sys.modules, "jax", host)
    monkeypatch.setattr(host.os, "execv", lambda *_: pytest.fail("began anew"))
    host.ask_for_huge_pages()
