"""What changes reruns exactly the steps it can reach, and rewording reruns none."""

from __future__ import annotations

import json
import pathlib

import pytest

from jaxattack import commandline, provenance, studies
from jaxattack.experiments.fragility import study as fragility
from jaxattack.experiments.fragility.setup import Setup

PACKAGE = provenance.PACKAGE


@pytest.fixture
def agenda(study, own_data, tmp_path, monkeypatch):
    """A function from overrides to the stages of a study, by kind and label; none is run."""
    rows = [json.loads(line) for line in own_data["prompts"].read_text().splitlines()]
    rows += [row | {"id": f"{row['id']}/2", "prompt": f"{row['prompt']} 2"} for row in rows]
    prompts = tmp_path / "translations.jsonl"  # enough to say how alike they are represented
    prompts.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    seen: list[Setup] = []
    whole = fragility.sections
    monkeypatch.setattr(fragility, "sections", lambda setup: seen.append(setup) or whole(setup))

    def stages(**overrides) -> dict[str, str]:
        own = {"data__prompts": f"jsonl:{prompts}?by=id"} | overrides
        flags = commandline.read_flags(study(tmp_path, **own)[1:])
        config, _ = commandline.resolve(flags, studies.KINDS)
        fragility.plan_lines(fragility.read(config), tmp_path)
        found = whole(seen[-1]).stages
        names = {f"{stage.kind} {stage.label}": stage.id for stage in found}
        assert len(names) == len({stage.id for stage in found})
        return names

    return stages


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def of(names, *kinds: str) -> set[str]:
    return {name for name in names if name.split()[0] in kinds}


# What rests on no attack: the aligned model's replies, gradients, masks and representations.
ALIGNED = {
    "ask aligned",
    "judge aligned",
    "gradients en-abs",
    "gradients th-abs",
    "gradients en-square",
    "gradients th-square",
    "similarity aligned",
    "masks en-snip@0.2-s0",
    "masks en-fisher@0.2-s0",
    "masks th-snip@0.2-s0",
    "masks th-fisher@0.2-s0",
}


def test_a_setting_reruns_what_hangs_on_it(agenda):
    before = agenda()
    everything = set(before)
    assert everything >= ALIGNED
    assert changed(before, agenda(attack__learning_rate="1e-3")) == everything - ALIGNED
    assert changed(before, agenda(measure__max_new_tokens="5")) == of(before, "ask", "judge")
    unmasked = {name for name in ALIGNED if not name.startswith("masks")} | of(before, "attack")
    unmasked |= {f"{kind} attacked/{code}-s0" for kind in ("ask", "judge") for code in ("en", "th")}
    unmasked |= {"mask movable-en-s0", "mask movable-th-s0"}  # what has a score is no selection
    assert changed(before, agenda(localize__scope="leaf")) == everything - unmasked
    assert changed(before, agenda(measure__judge="refusal rule")) == set()
    assert changed(before, agenda(report__replies="True")) == set()
    assert changed(before, agenda(dtype="bfloat16")) == everything
    assert changed(before, agenda(mesh="(1,2,1)")) == everything


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("evaluate/refusals.py", {"judge"}),
        ("evaluate/openings/th.toml", {"judge"}),
        ("experiments/judging.py", {"judge"}),
        ("experiments/asking.py", {"ask", "judge"}),
        ("defend/cleangen.py", {"ask", "judge"}),
        ("experiments/fragility/claims.py", set()),
        ("experiments/fragility/localization.py", set()),
        ("experiments/fragility/controls.py", set()),
        ("localize/rivals.py", set()),  # registries: a new row is read by its own steps alone
        ("train/registry.py", set()),
        ("evaluate/registry.py", set()),
        ("experiments/served.py", set()),
        ("evaluate/rubric.txt", set()),
        ("experiments/thresholds.py", set()),
        ("experiments/settings.py", set()),
        ("experiments/agenda.py", set()),
        ("experiments/inputs.py", set()),
        ("data/sources.py", set()),  # examples are named by what is in them
        ("organism/corpus.py", set()),
        ("report/page.py", set()),
        ("studies.py", set()),
    ],
)
def test_a_line_of_code_reruns_what_imports_it(agenda, code, file, kinds):
    before = agenda()
    code(file)
    assert changed(before, agenda()) == of(before, *kinds)


def test_a_line_of_the_training_reruns_attacks_and_what_rests_on_them(agenda, code):
    before = agenda()
    code("train/loop.py")
    found = changed(before, agenda())
    # Gradients are taken with the training's loss, a file that the loop does not change.
    assert found == set(before) - ALIGNED


def test_a_line_of_the_scores_reruns_gradients_and_what_is_scored(agenda, code):
    before = agenda()
    code("localize/scores.py")
    found = changed(before, agenda())
    same = of(before, "attack") | {"similarity aligned"}
    same |= {f"{kind} aligned" for kind in ("ask", "judge")}
    same |= {f"{kind} attacked/{code}-s0" for kind in ("ask", "judge") for code in ("en", "th")}
    assert found == set(before) - same


def test_who_judges_is_nothing_to_models_that_are_adapted():
    files = provenance._closure("jaxattack.experiments.fragility.new_languages")
    assert not [path for path in files if PACKAGE / "evaluate" in path.parents]


def test_a_line_of_the_model_reruns_everything(agenda, code):
    before = agenda()
    code("models/transformer.py")
    assert changed(before, agenda()) == set(before)


@pytest.fixture
def code(monkeypatch):
    """A function that adds a line to a file of the package, as far as names of steps go."""
    whole = provenance._content

    def change(file: str) -> None:
        path = PACKAGE / file
        assert path.is_file()
        monkeypatch.setattr(
            provenance, "_content", lambda p: whole(p) + (b"\n" if p == path else b"")
        )
        provenance.source_of.cache_clear()

    yield change
    monkeypatch.undo()
    provenance.source_of.cache_clear()


def edited(path: pathlib.Path, where: pathlib.Path, number: int, field: str) -> pathlib.Path:
    """A copy of a file of rows with one byte more in one of them."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number][field] += "."
    where.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return where


def test_a_byte_of_data_reruns_what_was_made_of_it(agenda, own_data, tmp_path):
    before = agenda()
    pairs = edited(own_data["pairs"], tmp_path / "pairs.jsonl", 0, "response")
    found = changed(before, agenda(data__pairs=f"jsonl:{pairs}"))
    assert "attack en-s0" in found or "gradients en-abs" in found
    assert not any(name.split()[-1].startswith(("th-s0", "attacked/th")) for name in found)
    assert "ask aligned" not in found
    prompts = edited(tmp_path / "translations.jsonl", tmp_path / "prompts.jsonl", 0, "prompt")
    found = changed(before, agenda(data__prompts=f"jsonl:{prompts}?by=id"))
    assert found == of(before, "ask", "judge", "similarity")
