"""Memory of the process: a training must not grow with its steps."""

import os
import pathlib
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


@pytest.mark.skipif(not host._on_request(), reason="no huge pages on request here")
@pytest.mark.parametrize("told", ["", "glibc.malloc.check=0", "glibc.malloc.hugetlb=0"])
def test_the_command_begins_anew_once_and_keeps_its_arguments(tmp_path, told):
    unset = ("GLIBC_TUNABLES", "JAXATTACK_HUGE_PAGES")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    script = tmp_path / "jaxattack"
    script.write_text(SAYS)
    root = str(pathlib.Path(host.__file__).parents[1])
    command = [sys.executable, str(script), "--workdir=a b", "--config.seeds=(0,)"]
    env |= {"GLIBC_TUNABLES": told, "PYTHONPATH": root}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        said = process.communicate()[0]
    wanted = told if "hugetlb" in told else ":".join(filter(None, (told, "glibc.malloc.hugetlb=1")))
    assert said == f"{process.pid} {wanted} --workdir=a b --config.seeds=(0,)\n"


@pytest.mark.parametrize(
    ("given", "argv", "is_command"),
    [
        ("/bin/jaxattack --help", "/bin/jaxattack --help", True),
        ("-m jaxattack.run --help", "/lib/jaxattack/run.py --help", True),
        ("-P -X utf8 -m jaxattack.run", "/lib/jaxattack/run.py", True),
        ("- --help", "- --help", False),  # a program from stdin, which is read
        ("-c code --help", "-c --help", False),
        ("-m pdb -m jaxattack.run", "/lib/jaxattack/run.py", False),
        ("-m ipykernel_launcher -f a", "/lib/ipykernel_launcher.py -f a", False),
        ("study.py --help", "study.py --help", False),
        ("", "", False),
    ],
)
def test_another_program_is_left_alone(monkeypatch, given, argv, is_command):
    monkeypatch.setattr(sys, "orig_argv", ["python", *given.split()])
    monkeypatch.setattr(sys, "argv", argv.split() or [""])
    assert host._is_command() == is_command


def test_what_cannot_begin_anew_goes_on_and_is_asked_once(monkeypatch):
    """An interpreter without a name; and one whose C library takes the variable away."""
    begun = []

    def execv(path, arguments):
        begun.append(arguments)
        raise ValueError("first element cannot be empty")

    for name in ("_is_command", "_on_request"):
        monkeypatch.setattr(host, name, lambda: True)
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    monkeypatch.delenv("JAXATTACK_HUGE_PAGES", raising=False)
    monkeypatch.setattr(host.os, "execv", execv)
    host.ask_for_huge_pages()
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    host.ask_for_huge_pages()
    assert len(begun) == 1


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
    monkeypatch.setattr(host.os, "confstr", lambda name: library)
    monkeypatch.setattr(host, "_PAGES", tmp_path / "enabled")
    if pages:
        (tmp_path / "enabled").write_text(pages)
    assert not host._on_request()
