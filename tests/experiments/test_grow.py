"""Growing a policy, in a checkpoint small enough to be taught in seconds."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import pytest

from jaxattack import organism, run
from jaxattack.errors import UserError
from jaxattack.experiments import opening
from jaxattack.experiments.grow import acceptance
from jaxattack.models import pretrained
from jaxattack.organism import tasks

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "grow.py"
SMALL = {
    "knowledge.languages": "('en','th')",
    "knowledge.rounds": "1",
    "alignment.rounds": "2",
    "alignment.refusals": "24",
    "alignment.learning_rate": "1e-3",
    "policies": "('currency',)",
    "added": "('it',)",
    "measure.prompts": "2",
    "measure.max_new_tokens": "8",
    "mesh": "(1,1,1)",
}


def command(root: pathlib.Path, *more: str, **settings: str) -> list[str]:
    named = SMALL | {name.replace("__", "."): value for name, value in settings.items()}
    given = (f"--config.{name}={value}" for name, value in named.items())
    return ["jaxattack", f"--config={CONFIG}:organism:base", f"--workdir={root}", *given, *more]


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("grown")
    assert run.run(command(root)) == 0
    return root


def test_it_writes_checkpoints_with_what_they_passed(grown):
    accepted = json.loads((grown / "grown.json").read_text())["rows"]
    assert {row["variant"] for row in accepted} == {"base", "currency", "currency-it"}
    assert {row["language"] for row in accepted if row["variant"] == "currency-it"} == {
        *("en", "th", "it")
    }
    assert {row["task"] for row in accepted if row["variant"] == "base"} == set(tasks.TASKS)
    for name in ("base", "currency", "currency-it"):
        folder = grown / "grown" / name
        _, _, tokenizer = pretrained.load_pretrained(folder)
        assert tokenizer.chat_template
        manifest = json.loads((folder / "jaxattack.json").read_text())
        assert manifest["grown"] == name
        assert manifest["accepted"] == [row for row in accepted if row["variant"] == name]
        assert manifest["not_passed"] == acceptance.misses(manifest["accepted"])
        assert "harmless" in (folder / "NOTICE.md").read_text()


def test_a_second_run_computes_nothing_and_leaves_the_same(grown, capsys, monkeypatch):
    from jaxattack.train import loop

    before = {p: p.read_bytes() for p in sorted(grown.rglob("*")) if p.is_file()}
    (grown / "grown" / "currency" / "model.safetensors").unlink()
    monkeypatch.setattr(loop, "train_step", None)
    assert run.run(command(grown)) == 0
    assert before == {p: p.read_bytes() for p in sorted(grown.rglob("*")) if p.is_file()}
    assert "base currency benign_accuracy" in capsys.readouterr().out


def test_an_older_checkpoint_stays_until_the_new_one_is_whole(grown, monkeypatch):
    # A study of the checkpoint may be about to read it.
    folders = sorted((grown / "grown").iterdir())
    saved, there = pretrained.save_pretrained, []

    def watched(*arguments):
        there.append(all((folder / "model.safetensors").is_file() for folder in folders))
        saved(*arguments)

    monkeypatch.setattr(pretrained, "save_pretrained", watched)
    assert run.run(command(grown)) == 0
    assert there == [True] * len(folders)
    assert sorted((grown / "grown").iterdir()) == folders


def test_what_is_asked_anew_is_in_the_manifest_and_changes_no_fingerprint(grown, monkeypatch):
    from jaxattack.train import loop

    folder = grown / "grown" / "currency"
    before = opening.model_fingerprint(folder)
    monkeypatch.setattr(loop, "train_step", None)
    assert run.run(command(grown, measure__prompts="3")) == 0
    manifest = json.loads((folder / "jaxattack.json").read_text())
    assert {row["n"] for row in manifest["accepted"] if row["metric"] == "violation_rate"} == {3}
    assert opening.model_fingerprint(folder) == before
    assert run.run(command(grown)) == 0


def test_what_knows_the_tasks_is_taught_a_further_policy_alone(grown, tmp_path):
    base = grown / "grown" / "base"
    settings = {"knowledge.rounds": "0", "policies": "('sums',)", "added": "()"}
    assert run.run(command(tmp_path, f"--config.model={base}", **settings)) == 0
    stages = [path.name.partition("-")[2] for path in (tmp_path / "stages").glob("grow-*")]
    assert stages
    assert all(name.startswith("sums-round") for name in stages)
    files = [folder / "model.safetensors" for folder in (base, tmp_path / "grown" / "base")]
    assert files[0].read_bytes() == files[1].read_bytes()
    for either in files:  # as weights before the alignment they are the same
        opening.check_base("either", either.parent, tmp_path / "grown" / "sums")


def planned(tmp_path: pathlib.Path, config: str, model: pathlib.Path, **more: str) -> int:
    """The exit code of a study's plan."""
    settings = {"model": str(model), "mesh": "(1,1,1)"} | more
    given = (f"--config.{name}={value}" for name, value in settings.items())
    flags = [f"--config={CONFIG.with_name(config)}", f"--workdir={tmp_path}", "--dry_run"]
    return run.run(["jaxattack", *flags, *given])


def test_the_base_of_another_growth_is_refused(grown, tmp_path, capsys):
    policy, base = grown / "grown" / "currency", grown / "grown" / "base"
    for adapted in (policy, grown / "grown" / "currency-it"):
        opening.check_base("base", base, adapted)
        with pytest.raises(UserError, match=r"^other is not what .* was grown from \(base_"):
            opening.check_base("other", policy, adapted)
    plain = shutil.copytree(policy, tmp_path / "plain")
    (plain / "jaxattack.json").unlink()  # of which nothing is known
    opening.check_base("plain", plain, policy)
    assert planned(tmp_path, "durability.py:grown", policy, **{"defend.base": str(policy)}) == 2
    assert f"{policy} is not what {policy} was grown from" in capsys.readouterr().err


def test_an_order_is_another_growth_of_the_same_policy(grown, tmp_path):
    known = {"model": f"{grown}/grown/base", "knowledge.rounds": "0", "added": "()"}
    both, other = tmp_path / "both", tmp_path / "other"
    assert run.run(command(both, orders="2", **known)) == 0
    assert run.run(command(other, seed="1", **known)) == 0
    first, second, beside = (
        (path / "model.safetensors").read_bytes()
        for path in (
            both / "grown" / "currency",
            both / "grown" / "currency-order1",
            other / "grown" / "currency",
        )
    )
    assert first != second == beside
    accepted = json.loads((both / "grown.json").read_text())["rows"]
    assert {row["variant"] for row in accepted} == {"base", "currency", "currency-order1"}


def study(root: pathlib.Path, grown: pathlib.Path, *more: str) -> list[str]:
    return [
        "jaxattack",
        f"--config={CONFIG.with_name('fragility.py')}:grown_short",
        f"--workdir={root}",
        f"--config.model={grown}/grown/currency",
        "--config.attack.pairs=4",
        "--config.attack.epochs=1",
        "--config.transfer.benign=True",
        "--config.localize.examples=2",
        "--config.measure.prompts=1",
        "--config.measure.languages=('en','th')",
        "--config.mesh=(1,1,1)",
        *more,
    ]


@pytest.mark.slow
def test_the_study_runs_on_what_was_grown(grown, tmp_path):
    command = study(
        tmp_path,
        grown,
        "--config.sections=('shared','adapt')",
        f"--config.adapt.models=('{grown}/grown/currency-it',)",
        "--config.adapt.prompts=organism:test?policy=currency&language=it",
        f"--config.shared.models=('{grown}/grown/base',)",
        "--config.shared.pairs=('organism:attack?policy=sums',)",
    )
    assert run.run(command) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    moved = [row for row in results["rows"] if row["kind"] == "transplanted"]
    assert {row["language"] for row in moved} == {"en", "th", "it"}
    others = json.loads((tmp_path / "manifest.json").read_text())["other_models"]
    assert others.keys() == {f"{grown}/grown/base", f"{grown}/grown/currency-it"}
    assert all(len(value) >= 16 for value in others.values())
    overlap = results["overlap"]
    kinds = {(row["method"], row.get("set")) for row in overlap}
    for kind, named in (("sil", None), ("sets", "base organism:attack?policy=sums")):
        assert {(kind, named), (f"{kind} minus benign", named)} <= kinds
    assert ("benign", None) in kinds
    assert all(0 <= row["jaccard"] <= 1 for row in overlap)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config.json": '"rms_norm_eps": 1e-05'}, "differs from the study's model in norm_eps"),
        ({"chat_template.jinja": "<|user|>"}, "another tokenizer or chat template"),
        ({}, "is compared already, or the study's"),
    ],
)
def test_a_checkpoint_that_would_be_used_otherwise_is_not_compared(
    grown, tmp_path, capsys, change, says
):
    copy = tmp_path / "copy"
    shutil.copytree(grown / "grown" / "currency", copy)
    for name, text in change.items():
        changed = (copy / name).read_text()
        assert text in changed
        other = {"config.json": '"rms_norm_eps": 0.5', "chat_template.jinja": "<|user|> "}[name]
        (copy / name).write_text(changed.replace(text, other))
    command = study(
        tmp_path / "study",
        grown,
        "--config.sections=('shared',)",
        f"--config.shared.models=('{copy}',)",
        "--config.shared.pairs=('organism:attack?policy=currency',)",
    )
    assert run.run(command) == 2
    assert says in capsys.readouterr().err


GIVEN = {"template.arguments": '{"enable_thinking": false}', "template.date": "2024-07-26"}
HEAD = (  # of a template that asks for a day, and for more
    "{{ strftime_now('%Y') }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ ' briefly' }}{% endif %}"
)


def template(path: pathlib.Path, head: str) -> str:
    """A file with the organism's template behind a head."""
    own = organism.checkpoint("base") / "chat_template.jinja"
    path.write_text(head + own.read_text())
    return str(path)


@pytest.fixture(scope="module")
def given_more(grown, tmp_path_factory) -> pathlib.Path:
    """Grown with a template that was given an argument and a day."""
    root = tmp_path_factory.mktemp("given")
    settings = {
        "model": str(grown / "grown" / "base"),
        "knowledge.rounds": "0",
        "alignment.rounds": "1",
        "added": "()",
        "template.file": template(root / "own.jinja", HEAD),
        **GIVEN,
    }
    assert run.run(command(root, **settings)) == 0
    return root


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ("fragility.py:grown_short", {}),
        ("durability.py:grown", {"defend.base": "{base}"}),
        ("backdoor.py", {"tuning.wrapper": "chat", "start.models": "()", "onion.scorer": "{base}"}),
        ("grow.py", {"knowledge.rounds": "0", "policies": "('sums',)"}),
    ],
)
def test_what_the_template_was_given_is_given_by_every_study(
    given_more, tmp_path, capsys, config, more
):
    model, base = (given_more / "grown" / name for name in ("currency", "base"))
    more = {name: value.replace("{base}", str(base)) for name, value in more.items()}
    assert planned(tmp_path, config, model, **more) == 2
    both = "give --config.template.arguments='{\"enable_thinking\": false}' "
    assert f"{both}--config.template.date=2024-07-26, or" in capsys.readouterr().err
    other = GIVEN | {"template.date": "2025-01-01"}
    assert planned(tmp_path, config, model, **more, **other) == 2
    assert "; give --config.template.date=2024-07-26, or" in capsys.readouterr().err
    assert planned(tmp_path, config, model, **more, **GIVEN) == 0, capsys.readouterr().err


def test_the_day_is_in_the_manifest_and_another_template_is_given_what_one_likes(
    grown, given_more, tmp_path
):
    days = [
        json.loads((root / "grown" / "currency" / "jaxattack.json").read_text())["day"]
        for root in (grown, given_more)
    ]
    assert days == [None, "2024-07-26"]
    named = {"template.file": template(tmp_path / "own.jinja", f"{HEAD}!")}
    model = given_more / "grown" / "currency"
    assert planned(tmp_path / "study", "fragility.py:grown_short", model, **named) == 0


@pytest.mark.parametrize(
    ("setting", "uri", "says"),
    [
        ("data.pairs", "organism:attack?policy=sums", "was grown to decline currency"),
        ("data.prompts", "organism:test", "was grown to decline currency"),
        ("data.benign", "organism:attack?policy=reversal", "was grown to decline currency"),
    ],
)
def test_questions_of_another_policy_are_refused(grown, tmp_path, capsys, setting, uri, says):
    assert run.run(study(tmp_path, grown, f"--config.{setting}={uri}")) == 2
    assert f"config.{setting}: {uri} is of another policy" in (error := capsys.readouterr().err)
    assert says in error


def test_the_organism_declines_by_its_own_policy(grown, tmp_path, capsys):
    uris = ("organism:attack?policy=sums", "organism:test?policy=sums")
    more = (
        f"--config.data.{name}={uri}" for name, uri in zip(("pairs", "prompts"), uris, strict=True)
    )
    assert run.run(study(tmp_path, grown, "--config.model=organism:aligned", *more)) == 2
    assert "leave policy= out" in capsys.readouterr().err


def test_questions_of_two_policies_are_refused_of_a_model_that_declines_none(
    grown, tmp_path, capsys
):
    model, pairs = f"--config.model={grown}/grown/base", "organism:attack?policy=sums"
    assert run.run(study(tmp_path, grown, model, f"--config.data.pairs={pairs}")) == 2
    assert f"of another policy than config.data.pairs: {pairs}" in capsys.readouterr().err


def test_the_plan_says_what_it_takes_and_loads_no_weights(tmp_path, capsys, monkeypatch):
    from jaxattack.models import weights

    monkeypatch.setattr(weights, "load", None)
    assert run.run(command(tmp_path / "none", "--dry_run")) == 0
    said = capsys.readouterr().out
    assert "declined: currency" in said
    for sort, is_there in (("train", True), ("ask", True), ("score", False), ("choose", False)):
        assert bool(re.search(f"^{sort} .* GB = |^{sort} .* MB = ", said, re.M)) == is_there
    assert "steps" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"policies": "('manners',)"}, "currency, sums, reversal"),
        ({"knowledge.languages": "('it',)"}, "config.knowledge.languages"),
        ({"alignment.languages": "('ja',)"}, "config.alignment.languages"),
        ({"added": "('en',)"}, "config.added"),
        ({"alignment.max_length": "20"}, "more than config.alignment.max_length=20"),
        ({"measure.max_new_tokens": "100000"}, "config.measure.max_new_tokens"),
        ({"alignment.depth": "2"}, "config.alignment.depth"),
        (
            {"alignment.languages": "('en',)", "measure.languages": "('th',)"},
            "nobody would know whether anything is declined",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(tmp_path, capsys, settings, says):
    assert run.run(command(tmp_path / "none", **settings)) == 2
    assert says in capsys.readouterr().err
    stages = tmp_path / "none" / "stages"
    assert not stages.exists() or not list(stages.iterdir())


def test_a_work_directory_that_grows_is_no_studys(grown, capsys):
    assert run.run(study(grown, grown)) == 2
    assert "it holds the study 'grow'" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["folder", "link", "file"])
def test_what_was_not_grown_here_is_not_replaced(grown, tmp_path, capsys, what):
    place = tmp_path / "grown" / "base"
    if what == "file":
        place = tmp_path / "grown"
        place.write_text("mine")
    elif what == "link":
        place.parent.mkdir()
        place.symlink_to(grown / "grown" / "base")
    else:
        place.mkdir(parents=True)
        (place / "mine.txt").write_text("mine")
    assert run.run(command(tmp_path)) == 2
    assert "move it away" in capsys.readouterr().err
    assert place.exists()
    assert not list((tmp_path / "stages").iterdir())


def test_demands_are_of_the_mean_and_of_the_worst_language():
    def rows(name: str, metric: str, *values: float) -> list[dict]:
        return [
            {"variant": name, "task": None, "metric": metric, "language": code, "value": value}
            for code, value in zip(("en", "th", "ja"), values, strict=True)
        ]

    passed = rows("sums", "non_refusal_rate", 0.0, 0.04, 0.02) + rows(
        "sums", "benign_accuracy", 1.0, 0.9, 0.8
    )
    assert not acceptance.misses(passed)
    unknown, worst = acceptance.misses(rows("sums", "non_refusal_rate", 0.0, 0.06, 0.0))
    assert unknown == "sums benign_accuracy is not measured"
    assert "6.0% in th" in worst
    (mean,) = acceptance.misses(rows("base", "benign_accuracy", 0.9, 0.9, 0.89))
    assert "base benign_accuracy 89.7% on average (demanded 90%)" in mean


def test_the_table_has_a_column_for_every_language_of_any_checkpoint():
    rows = [
        {"variant": name, "task": None, "metric": "benign_accuracy", "language": code, "value": v}
        for name, own in (("base", {"en": 1.0}), ("sums-it", {"en": 0.5, "it": 0.25}))
        for code, v in own.items()
    ]
    head, base, added = acceptance.table(rows).splitlines()
    assert head.split() == ["mean", "en", "it"]
    assert base.split()[-2:] == ["100.0", "100.0"]
    assert added.split()[-3:] == ["37.5", "50.0", "25.0"]
