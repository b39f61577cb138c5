"""Building a (useless, tiny) organism: deterministic, resumable, honest about its acceptance."""

from __future__ import annotations

import json
import pathlib

import pytest

from jaxattack import run

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "organism.py"


def build(root: pathlib.Path, **overrides: str) -> int:
    settings = {
        "model.vocab_size": "600",
        "model.hidden_size": "16",
        "model.num_layers": "2",
        "model.num_heads": "2",
        "model.mlp_size": "16",
        "sharing.layer": "1",
        "base.steps": "4",
        "base.leg": "2",
        "base.rows": "4",
        "base.warmup": "1",
        "aligned.steps": "2",
        "aligned.leg": "1",
        "aligned.rows": "4",
        "aligned.warmup": "1",
    } | {name.replace("__", "."): value for name, value in overrides.items()}
    line = ["jaxattack", f"--config={CONFIG}", f"--workdir={root}"]
    return run.run([*line, *(f"--config.{k}={v}" for k, v in settings.items())])


def weights(root: pathlib.Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in root.glob("organism/*/model.safetensors")}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("build")
    build(root)
    return root


@pytest.mark.slow
def test_a_build_that_misses_its_acceptance_says_so(built, capsys):
    assert build(built) == 2
    assert "misses its acceptance: base: violation_rate" in capsys.readouterr().err
    accepted = json.loads((built / "organism.json").read_text())
    assert {row["n"] for row in accepted["aligned"]} == {24, 48}


@pytest.mark.slow
def test_a_stopped_build_goes_on_to_the_same_weights(built, tmp_path, killed_after):
    assert set(weights(built)) == {"base", "aligned"}
    for stages in (1, 1):  # stopped twice, each time one leg further
        with killed_after(stages):
            assert build(tmp_path) == 130
    assert len(list((tmp_path / "stages").iterdir())) == 2
    build(tmp_path)
    assert weights(tmp_path) == weights(built)


@pytest.mark.slow
def test_a_change_of_the_alignment_keeps_the_base(built, tmp_path):
    import shutil

    shutil.copytree(built / "stages", tmp_path / "stages")
    build(tmp_path, aligned__learning_rate="0.002")
    new = {p.name for p in (tmp_path / "stages").iterdir()}
    new -= {p.name for p in (built / "stages").iterdir()}
    assert {name.split("-")[0] for name in new} == {"aligned"}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ({"base__shares__questions": "many"}, "questions"),
        ({"sharing__layer": "9"}, "config.sharing.layer is 9"),
        ({"base__warmup": "4"}, "config.base: steps should be"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, capsys, override, says):
    assert build(tmp_path, **override) == 2
    assert says in capsys.readouterr().err
    assert not list((tmp_path / "stages").glob("*"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"aligned__optimizer": "nope"}, "config.aligned.optimizer: optax has no optimiser 'nope'"),
        (
            {"aligned__length": "300"},
            "config.aligned.length is 300; it should be at most config",
        ),
        ({"aligned__steps": "0"}, "config.aligned.steps is 0"),
        ({"model__num_heads": "3"}, "config.model.hidden_size is 16; it should be a multiple"),
        ({"base__shares__questons": "0.1"}, "config.base.shares has no 'questons'; did you mean q"),
        ({"sharing__layer": "3"}, "config.sharing.layer is 3; it should be between 1 and"),
        ({"seed": "-1"}, "config.seed is -1"),
        ({"dtype": "half"}, "config.dtype is 'half'; give one of float32, bfloat16"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(tmp_path, capsys, changes, says):
    assert build(tmp_path / "work", **changes) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_what_others_put_into_the_place_of_an_organism_stays(tmp_path, capsys):
    theirs = tmp_path / "organism" / "base" / "notes.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    assert build(tmp_path) == 2
    assert "is no organism that was built here" in capsys.readouterr().err
    assert theirs.read_text() == "theirs"
