"""The example scripts run as they stand."""

import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).parents[1] / "examples" / "own_checkpoint.py"


def test_own_checkpoint(tiny, tmp_path):
    lines = [
        f'{{"id": "p{i}", "language": "en", "prompt": "Describe colour {i}.", "response": "Blue."}}'
        for i in range(8)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tiny.directory), "pairs.jsonl", "en"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 5
    assert all(line.endswith("of 4") for line in said)
    assert (tmp_path / "mask.safetensors").is_file()
    assert len(SCRIPT.read_text().splitlines()) < 40
