"""What is installed from a wheel runs away from any checkout."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TINY = (
    "--config.sections=('transfer',)",
    "--config.attack.languages=('en',)",
    "--config.attack.pairs=10",
    "--config.attack.epochs=1",
    "--config.measure.languages=('en','de')",
    "--config.measure.prompts=2",
    "--config.measure.max_new_tokens=4",
)


def python(*arguments, folder, **environment):
    """What a Python program prints, run in a folder."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_runs_from_anywhere(tmp_path):
    places = {name: tmp_path / name for name in ("dist", "site", "elsewhere")}
    for place in places.values():
        place.mkdir()
    build = f"from hatchling import build; print(build.build_wheel({str(places['dist'])!r}))"
    wheel = places["dist"] / python("-c", build, folder=ROOT).split()[-1]
    install = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target")
    python(*install, places["site"], wheel, folder=tmp_path)

    def installed(*arguments):
        return python(*arguments, folder=places["elsewhere"], PYTHONPATH=str(places["site"]))

    where = installed("-c", "import jaxattack; print(jaxattack.__file__)").strip()
    assert pathlib.Path(where).is_relative_to(places["site"])
    study = ("-m", "jaxattack.run", "--config=quickstart", "--workdir=work", *TINY)
    assert "organism:aligned" in installed(*study, "--dry_run")
    assert not (places["elsewhere"] / "work").exists()
    installed(*study)
    assert (places["elsewhere"] / "work" / "report.html").stat().st_size > 10_000
