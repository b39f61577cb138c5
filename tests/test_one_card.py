"""The benchmark of one card: what cannot be is a line, before anything is trained."""

import pathlib
import sys

import pytest

from benchmarks import one_card
from jaxattack import organism

MODEL = organism.checkpoint("aligned")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--arithmetic=float99"], "--arithmetic=float99: there are: bfloat16; float32"),
        (["--ways", "float99"], "--ways=float99: there are: float32, 8-bit moments; extended"),
        (["--pairs=nope:x"], "data URI 'nope:x': give organism:<split>"),
        (["--pairs=organism:nope"], "nope"),
        (["--pairs=jsonl:absent.jsonl"], "absent.jsonl"),
        (["--language=xx"], "--language=xx: organism:attack has: de, en, "),
        (["--steps=0"], "--steps=0: give 1 or more"),
        (["--fraction=2"], "--fraction=2.0: give a share above 0"),
        (["--out=absent/rows.json"], "--out=absent/rows.json: give a file in a directory"),
        (["absent"], "absent: no such directory"),
    ],
)
def test_what_cannot_be_is_a_line(capsys, monkeypatch, arguments, says):
    model = [] if arguments[0] == "absent" else [str(MODEL)]
    monkeypatch.setattr(sys, "argv", ["one_card", *model, *arguments])
    monkeypatch.setattr(one_card, "finetune", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(SystemExit) as ended:
        one_card.main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("benchmarks.one_card: ")
    assert says in said.err
    assert said.err.count("\n") == 1


@pytest.mark.slow
def test_what_is_trained_alike_is_alike(tmp_path, capsys, monkeypatch):
    out = tmp_path / "rows.json"
    words = [str(MODEL), "--steps=2", "--number=4", "--batch_size=2", f"--out={out}"]
    words += ["--ways", "stochastic"]
    monkeypatch.setattr(sys, "argv", ["one_card", *words])
    with pytest.raises(SystemExit) as ended:
        one_card.main()
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:7].strip() for line in lines] == ["way", "float32", "float32", "stochas"]
    plain, rounded, drawn = (float(line[42:51]) for line in lines[1:])
    assert plain == 1.0
    assert 1.0 > rounded > drawn > 0.5  # nothing in bfloat16 is nearer than what is rounded once
    assert pathlib.Path(out).read_text().count('"way"') == 3
