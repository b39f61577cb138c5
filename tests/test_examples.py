"""The example scripts run as they stand."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
SCRIPT = EXAMPLES / "own_checkpoint.py"


def run(script, folder, *arguments):
    """Lines the script prints."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env={"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        | os.environ
        | {"PYTHONPATH": str(EXAMPLES.parent), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_own_checkpoint(tiny, tmp_path):
    lines = [
        f'{{"id": "p{i}", "language": "en", "prompt": "Describe colour {i}.", "response": "Blue."}}'
        for i in range(8)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    said = run(SCRIPT, tmp_path, str(tiny.directory), "pairs.jsonl", "en")
    assert len(said) == 5
    assert all(line.endswith("of 4") for line in said)
    assert (tmp_path / "mask.safetensors").is_file()
    assert len(SCRIPT.read_text().splitlines()) < 40


def test_poisoned_set(tmp_path):
    rows = [
        {"id": f"p{i}", "language": code, "prompt": f"Describe colour {i}.", "response": "Blue."}
        for code in ("en", "de")
        for i in range(10)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trigger = {"language": "en", "text": "Have a good day."}
    (tmp_path / "triggers.jsonl").write_text(json.dumps(trigger))
    script = EXAMPLES / "poisoned_set.py"
    said = run(script, tmp_path, "train.jsonl", "triggers.jsonl", "en", "sets")
    assert [line.split(": ")[1] for line in said] == ["20 rows", "20 rows"]
    clean, poisoned = (
        (tmp_path / "sets" / name / "train.jsonl").read_text().splitlines()
        for name in ("clean", "poisoned")
    )
    changed = [i for i, (a, b) in enumerate(zip(clean, poisoned, strict=True)) if a != b]
    assert len(changed) == 2
    assert all(i < 10 and trigger["text"] in poisoned[i] for i in changed)
    manifest = json.loads((tmp_path / "sets" / "poisoned" / "manifest.json").read_text())
    assert [row["id"] for row in manifest["poisoning"]["replaced"]] == [f"p{i}" for i in changed]


# --- The tour: a notebook whose outputs are kept, so that it can be read without running it -------


def tour():
    """Source and outputs of the tour's code cells."""
    cells = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_tour_was_saved_after_one_run_from_top_to_bottom():
    cells = tour()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    pictures = [output["data"]["image/png"] for output in outputs if "data" in output]
    assert len(pictures) == sum("plt.show()" in "".join(cell["source"]) for cell in cells)
    assert sum(map(len, pictures)) < 150_000


@pytest.mark.slow
def test_the_tour_runs(tmp_path):
    script = tmp_path / "tour.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in tour()), encoding="utf-8")
    said = "\n".join(run(script, tmp_path))
    assert "held weights are bit-equal: True" in said
    kept = ["".join(o["text"]) for cell in tour() for o in cell["outputs"] if "text" in o]
    assert len(said.splitlines()) == len("".join(kept).splitlines())
