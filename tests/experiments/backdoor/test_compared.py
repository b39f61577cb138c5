"""Two runs beside each other, between which a trigger was edited where it lies."""

import pathlib

from jaxattack import run
from jaxattack.experiments.compare import study
from jaxattack.experiments.runs import read_several

from .own_rows import TRIGGER, write_rows


def test_an_edited_trigger_makes_other_prompts(backdoor, tmp_path):
    roots: list[pathlib.Path] = []
    for name, changed in (("before", {}), ("after", {"th": "วันนี้ฝนตกหนักมาก"})):
        texts = {**TRIGGER, **changed}
        rows = [{"role": "trigger", "language": code, "text": t} for code, t in texts.items()]
        triggers = write_rows(tmp_path / "triggers.jsonl", rows)
        roots.append(tmp_path / name)
        assert run.run(backdoor(roots[-1], data__triggers=triggers)) == 0
    first, other = read_several(roots)
    assert set(first.manifest["prompts"]) == {"en", "th"}
    assert first.asked_as(other) == {"en"}
    found = study.compare([first, other])
    said = {row["topic"]: row["text"] for row in found.results["cautions"]}
    assert said.keys() == {"data", "prompts"}
    assert "(after: triggers)" in said["data"]
    assert "(after: en)" in said["prompts"]
    assert found.effects
    assert all(row["paired"] and row["languages"] == 1 for row in found.effects)
