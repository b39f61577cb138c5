"""Finished runs beside each other: what differs, what it did, and what keeps them apart."""

from __future__ import annotations

import json
import math
import pathlib
import sys

import pandas
import pytest

from jaxattack import compare as command
from jaxattack.errors import UserError
from jaxattack.evaluate.rates import wilson
from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import TRIAL_COLUMNS, Cell, trial_row
from jaxattack.experiments.compare import study
from jaxattack.experiments.runs import read_several
from jaxattack.report.table import parquet

ATTACKED = Cell("attacked", 0, "en")
LESS = {"rows": [{"metric": "valid_reply_rate", "n": 3}]}
CONFIG = {"data": {"prompts": "organism:test"}, "attack": {"pairs": 100}, "mesh": [1, 1, 1]}


def trials(cell: Cell, hits: dict[str, str]) -> list[dict]:
    """A trial of each mark: "x" is answered, "-" refused; by language."""
    return [
        trial_row(
            cell,
            Trial(f"q{i}", "restricted", code, "answer", mark != "x", mark == "x", f"h{i}"),
        )
        for code, marks in hits.items()
        for i, mark in enumerate(marks)
    ]


def cut(root: pathlib.Path, column: str) -> None:
    path = root / "trials.parquet"
    pandas.read_parquet(path).drop(columns=column).to_parquet(path)


def write(root: pathlib.Path, rows: list[dict], config=CONFIG, judge="facts", **changed) -> None:
    languages = list(dict.fromkeys(row["language"] for row in rows))
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    results = {
        "study": "fragility",
        "languages": languages,
        "seeds": seeds,
        "judge": {"name": judge, "rule": f"by {judge}"},
        "rows": [],
        "claims": [{"id": "A1", "claim": "It spreads.", "verdict": "holds"}],
    }
    manifest = {"finished": True, "prompts": {code: f"all of {code}" for code in languages}}
    root.mkdir(exist_ok=True)
    for name, content in (("results", results), ("manifest", manifest)):
        given = changed.pop(name, {})
        (root / f"{name}.json").write_text(json.dumps(content | given))
    (root / "config.json").write_text(json.dumps(config))
    (root / "trials.parquet").write_bytes(parquet(rows, TRIAL_COLUMNS))


ATTACK = trials(ATTACKED, {"en": "x-"})


@pytest.fixture
def two(tmp_path):
    """Two runs; `x` stands for an answer to a restricted prompt."""
    before, after = tmp_path / "before", tmp_path / "after"
    write(before, trials(ATTACKED, {"en": "xxxx----", "th": "xx------"}))
    write(after, trials(ATTACKED, {"en": "xxxxxx--", "th": "xxxxx---"}))
    return [before, after]


def differences(paths, metric="violation_rate") -> list[dict]:
    return [row for row in study.compare(read_several(paths)).effects if row["metric"] == metric]


def cautions(paths) -> dict[str, str]:
    found = study.compare(read_several(paths)).results["cautions"]
    return {row["topic"]: row["text"] for row in found}


def test_a_difference_is_of_means_over_languages_on_the_same_prompts(two):
    (row,) = differences(two)
    assert (row["value_first"], row["value"]) == (6 / 16, 11 / 16)
    assert row["difference"] == pytest.approx(5 / 16)
    assert row["low"] < 5 / 16 < row["high"]
    assert 0 < row["p"] < 0.2
    assert row["holm"] >= row["p"]
    assert (row["languages"], row["prompts"], row["paired"]) == (2, 8, True)
    (turned,) = differences(two[::-1])
    assert turned["difference"] == -row["difference"]
    assert (turned["low"], turned["high"]) == pytest.approx((-row["high"], -row["low"]))
    assert turned["p"] == pytest.approx(row["p"])


def test_a_run_beside_one_that_found_the_same_differs_in_nothing(two):
    write(two[1], trials(ATTACKED, {"en": "xxxx----", "th": "xx------"}))
    for row in study.compare(read_several(two)).effects:
        assert row["difference"] == 0
        assert row["p"] == 1
        assert row["low"] <= 0 <= row["high"]
    assert not cautions(two)


def test_only_languages_with_the_same_prompts_are_compared(two):
    rows = trials(ATTACKED, {"en": "xxxxxx--", "th": "xxxxxxxx", "de": "xxxxxxxx"})
    write(two[1], rows, manifest={"prompts": {"en": "all of en", "th": "others", "de": "all"}})
    (row,) = differences(two)
    assert (row["languages"], row["difference"], row["paired"]) == (1, 0.25, True)
    assert "after: en" in cautions(two)["prompts"]
    assert "All of them measured en, th" in cautions(two)["languages"]


def test_other_prompts_are_two_samples(two):
    write(two[1], trials(ATTACKED, {"en": "xxxxxx--"}), manifest={"prompts": {"en": "others"}})
    write(two[0], trials(ATTACKED, {"en": "xxxx----"}))
    (row,) = differences(two)
    assert (row["paired"], row["p"], row["holm"]) == (False, None, None)
    assert row["low"] < 0 < row["difference"] < row["high"]
    # Each rate has an interval of its own, here of eight prompts: as wide or wider than Wilson's.
    (low, high), (lowest, highest) = wilson(4, 8), wilson(6, 8)
    assert row["low"] <= 0.25 - math.hypot(0.75 - lowest, high - 0.5)
    assert row["high"] >= 0.25 + math.hypot(highest - 0.75, 0.5 - low)
    assert "before" in cautions(two)["prompts"]


def test_seeds_are_repetitions_of_the_same_prompts(two):
    for root, marks in zip(two, (("x---", "x---"), ("xx--", "xxx-")), strict=True):
        write(root, [r for s in (0, 1) for r in trials(ATTACKED.of(s), {"en": marks[s]})])
    (row,) = differences(two)
    assert (row["seeds"], row["prompts"]) == (2, 4)
    assert row["difference"] == pytest.approx(3 / 8)


def test_what_keeps_runs_apart_is_said(two):
    rows = trials(ATTACKED.of(3), {"en": "xxxxxx--", "th": "xxxxx---"})
    config = CONFIG | {"attack": {"pairs": 10}, "mesh": [1, 8, 1]}
    write(two[1], rows, config, judge="guard")
    found = cautions(two)
    assert found.keys() == {"judges", "seeds", "settings"}
    assert "before: facts; after: guard" in found["judges"]
    assert "before: 0; after: 3" in found["seeds"]
    assert "otherwise in attack.pairs" in found["settings"]
    assert {row["judge"] for row in differences(two)} == {"another"}
    named = {row["setting"] for row in study.compare(read_several(two)).results["settings"]}
    assert named == {"attack.pairs", "mesh"}


def run(*arguments: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["jaxattack-compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command.main()
    return int(end.value.code or 0)


def test_the_command_writes_a_page_and_two_tables(two, tmp_path, capsys):
    assert run(*two, f"--out={tmp_path}/new/both.html") == 0
    said = capsys.readouterr().out.split()
    assert [pathlib.Path(path).name for path in said] == [
        *("both.html", "both.parquet", "both-differences.parquet")
    ]
    html = pathlib.Path(said[0]).read_text()
    assert "before and after, compared" in html
    assert "holds" in html
    table = pandas.read_parquet(said[2])
    assert set(table["metric"]) == {"violation_rate", "non_refusal_rate"}
    assert table["difference"].tolist() == pytest.approx([5 / 16] * 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda two: two.pop(), "name two runs or more"),
        (lambda two: two.append(two[0]), "named twice"),
        (lambda two: (two[1] / "trials.parquet").unlink(), "trials.parquet is not there"),
        (lambda two: (two[1] / "trials.parquet").write_text("no"), "not those of a study"),
        (lambda two: (two[1] / "results.json").write_text("[]"), "not those of a study"),
        (lambda two: (two[1] / "config.json").write_text("{}"), "not those of a study"),
        (lambda two: write(two[1], ATTACK, results={"claims": [{}]}), "not those of a study"),
        (lambda two: write(two[1], ATTACK, results=LESS), "has 2 rows of 3"),
        (lambda two: cut(two[1], "refused"), "has no column refused"),
        (lambda two: write(two[1], [], manifest={"finished": False}), "is not finished"),
        (lambda two: write(two[1], [], results={"study": "backdoor"}), "different things"),
        (lambda two: two.append(two[0] / "nowhere"), "no work directory"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(two, tmp_path, capsys, change, says):
    change(two)
    assert run(*two, f"--out={tmp_path}/both.html") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "both.html").exists()


def test_a_runs_own_directory_is_no_place_for_the_page(two):
    before = (two[1] / "trials.parquet").read_bytes()
    with pytest.raises(UserError, match="a run's own directory"):
        study.write(two, two[1] / "trials.html")
    assert (two[1] / "trials.parquet").read_bytes() == before


def test_runs_may_be_called_like_a_column(two):
    named = [
        path.rename(path.with_name(name)) for path, name in zip(two, ("id", "setting"), strict=True)
    ]
    write(named[1], trials(ATTACKED, {"en": "x"}), CONFIG | {"attack": {"pairs": 7}})
    found = study.compare(read_several(named)).results
    assert found["verdicts"][0]["id"] == "A1"
    assert [row["setting"] for row in found["settings"]] == ["attack.pairs"]


def test_what_is_not_a_page_is_not_replaced(two, tmp_path):
    with pytest.raises(UserError, match=r"end in \.html"):
        study.write(two, tmp_path / "both")
    (tmp_path / "both.parquet").mkdir()
    with pytest.raises(UserError, match="which is not replaced"):
        study.write(two, tmp_path / "both.html")
    assert not (tmp_path / "both.html").exists()
