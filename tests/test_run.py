"""Mistakes on the command line: one clear line, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from jaxattack import run

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "quickstart.py"


@pytest.fixture
def refused(capsys, tmp_path):
    """A function that runs a command line and returns the one line it is refused with."""

    def check(*arguments: str, config: bool = True, workdir: bool = True) -> str:
        root = tmp_path / "work"
        line = ["jaxattack"]
        line += [f"--config={CONFIG}"] * config + [f"--workdir={root}"] * workdir
        assert run.run([*line, *arguments]) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("jaxattack: ")
        assert "\n" not in error
        assert "Traceback" not in error
        assert not (root / "results.json").exists()
        assert not list(root.glob("stages/*"))
        return error

    return check


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--config.atack.languages=('en',)", "atack"),
        ("--config.attack.epoch=3", "epoch"),
        ("--config.attack.languages=en,th", "--config.attack.languages=\"('en','th')\""),
        ("--config.attack.languages=('en, th',)", "('en','th')"),
        ("--config.attack.languages=('en','en')", "twice"),
        ("--config.attack.languages=('xx',)", "no language 'xx'; there are: en, de"),
        ("--config.measure.languages=('tlh',)", "no language 'tlh'"),
        ("--config.localize.fractions=(0.1, 1.5)", "between 0 and 1, not 1.5"),
        ("--config.localize.control_fraction=-0.1", "between 0 and 1"),
        ("--config.localize.at=halfway", "'halfway'; give one of aligned, attacked"),
        ("--config.localize.scope=block", "global, leaf, row"),
        ("--config.attack.epochs=0", "config.attack.epochs is 0"),
        ("--config.attack.epochs=many", "epochs"),
        ("--config.attack.accumulate=3", "accumulate is 3; it should divide"),
        ("--config.seeds=()", "config.seeds"),
        ("--config.mesh=(3,1,-1)", "mesh (3, 1, -1) does not fit 8 devices"),
        ("--config.study=frailty", "fragility"),
        ("--config.model=no/such/place", "no/such/place"),
        ("--config.model=organism:nobody", "nobody"),
        ("--config.data.pairs=organism:nowhere", "attack, calibration, validation, test"),
        ("--config.data.pairs=csv:file.csv", "csv:file.csv"),
        ("--config.data.pairs=jsonl:absent.jsonl", "absent.jsonl: no such file"),
        ("--config.data.pairs=organism:test", "test prompts are also attack pairs"),
        ("--config.attack.optimizer=adamv", "adamv"),
        ("--confg=x", "confg"),
        ("stray", "stray"),
    ],
)
def test_a_wrong_setting_is_named(refused, argument, says):
    assert says in refused(argument)


def test_missing_flags_are_named(refused):
    assert "--config=FILE" in refused(config=False)
    assert "--workdir=DIR" in refused(workdir=False)
    assert "absent.py" in refused("--config=absent.py", config=False)


def test_empty_data_is_named(refused, tmp_path):
    (tmp_path / "pairs.jsonl").write_text("\n")
    assert "no rows" in refused(f"--config.data.pairs=jsonl:{tmp_path / 'pairs.jsonl'}")


def test_a_damaged_checkpoint_is_named(refused, tiny, tmp_path):
    for name, damage, says in (
        ("cut", lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated"),
        ("gone", lambda path: path.unlink(), "neither model.safetensors"),
    ):
        directory = shutil.copytree(tiny.directory, tmp_path / name)
        damage(directory / "model.safetensors")
        assert says in refused(f"--config.model={directory}")


def test_an_infinite_loss_is_named(capsys, tiny, tmp_path):
    rows = [{"id": str(i), "language": "en", "prompt": f"a{i}", "response": "b"} for i in range(8)]
    pairs, prompts = tmp_path / "pairs.jsonl", tmp_path / "prompts.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts.write_text(json.dumps({"id": "p", "language": "en", "prompt": "c"}) + "\n")
    arguments = {
        "model": tiny.directory, "data.pairs": f"jsonl:{pairs}",
        "data.prompts": f"jsonl:{prompts}", "attack.learning_rate": "1e38",
        "attack.optimizer": "sgd", "attack.clip": "0.0", "measure.max_new_tokens": "2",
    }  # fmt: skip
    line = ["jaxattack", f"--config={CONFIG}", f"--workdir={tmp_path / 'work'}"]
    assert run.run([*line, *(f"--config.{k}={v}" for k, v in arguments.items())]) == 2
    assert "lower the learning rate" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "work" / "stages").glob("attack-*"))


def test_help_lists_the_settings(capsys):
    assert run.run(["jaxattack", f"--config={CONFIG}", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--workdir=DIR" in shown
    assert "--config.attack.learning_rate=" in shown
    assert run.run(["jaxattack"]) == 0
    assert "--config=FILE" in capsys.readouterr().out
