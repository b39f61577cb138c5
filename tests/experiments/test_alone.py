"""Each section of the fragility study runs without the others."""

import json
import shutil

import jax
import pytest

from jaxattack import run
from jaxattack.experiments import opening
from jaxattack.models.pretrained import save_pretrained


@pytest.mark.parametrize(
    "section",
    ["shared", *(pytest.param(name, marks=pytest.mark.slow) for name in ("localize", "pathways"))],
)
def test_a_section_needs_no_other(section, study, tmp_path):
    alone = {
        "sections": f"('{section}',)",
        "localize__fractions": "(0.2,)",
        "localize__controls": "('random','benign')",
        "pathways__rounds": "2",
    }
    assert run.run(study(tmp_path, **alone)) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    verdicts = {claim["id"]: claim["verdict"] for claim in results["claims"]}
    own = {"localize": "A2", "shared": "A3", "pathways": "A4"}[section]
    assert verdicts[own] != "not run"
    left_out = results["lost"].get("config.localize.controls", {})
    assert len(left_out) == (2 if section == "localize" else 0)  # there are no benign pairs
    assert {verdict for name, verdict in verdicts.items() if name not in (own, "A1")} == {"not run"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transfer__sharing": "(0.1,)"}, "config.transfer.sharing is a knob of the organism"),
        ({"sections": "('adapt',)"}, "name adapted checkpoints, config.adapt.models"),
        ({"sections": "('adapt',)", "adapt__models": "('{tiny}','{tiny}')"}, "give each once"),
        (
            {"sections": "('adapt',)", "adapt__models": "('{other}',)"},
            "does not fit the attack vector: ",
        ),
        ({"sections": "('adapt',)", "adapt__models": "('no/such',)"}, "no/such"),
        ({"adapt__prompts": "jsonl:more.jsonl"}, "config.adapt.models, and that is ()"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(
    change, message, study, tiny, make_checkpoint, tmp_path, capsys
):
    other = make_checkpoint(intermediate_size=64).directory
    given = {
        k: v.replace("{tiny}", str(tiny.directory)).replace("{other}", str(other))
        for k, v in change.items()
    }
    assert run.run(study(tmp_path, **given)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.glob("stages/*"))


def test_a_model_adapted_elsewhere_gets_the_attack_vector(study, tiny, tmp_path):
    # The model itself: then the whole vector gives the attacked model, prompt for prompt.
    alone = {"sections": "('adapt',)", "adapt__models": f"('{tiny.directory}',)"}
    assert run.run(study(tmp_path, **alone)) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    rates = {(row["variant"], row["language"], row["metric"]): row["value"] for row in rows}
    name = tiny.directory.name
    for code in ("en", "th"):
        for language in ("en", "th"):
            for metric in ("violation_rate", "valid_reply_rate"):
                found = rates[f"transplanted/{code}/{name}-all@1", language, metric]
                assert found == rates[f"attacked/{code}", language, metric]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("swapped", "otherwise ('a' is {a} here, {b} there)"),
        ("taken out", "1 of the study's tokens otherwise ('a' is {a} here, absent there)"),
        ("added", ""),
    ],
)
def test_an_adapted_model_s_tokens_are_the_study_s_and_more(
    change, says, study, tiny, tmp_path, capsys
):
    copy = shutil.copytree(tiny.directory, tmp_path / "copy")
    path = copy / "tokenizer.json"
    fields = json.loads(path.read_text())
    known = fields["model"]["vocab"]
    a, b = known["a"], known["b"]
    if change == "swapped":
        known["a"], known["b"] = b, a
    elif change == "taken out":
        known["another"] = known.pop("a")
        fields["model"]["merges"] = []
    else:
        known["another"] = len(known) + len(fields["added_tokens"])
    path.write_text(json.dumps(fields))
    alone = {"sections": "('adapt',)", "adapt__models": f"('{copy}',)"}
    done = run.run([*study(tmp_path / "study", **alone), "--dry_run"])
    said = capsys.readouterr().err
    assert done == (2 if says else 0), said
    assert says.format(a=a, b=b) in said
    assert (f"config.adapt.models: {copy}: its tokenizer numbers" in said) == bool(says)


def test_a_revision_is_of_the_study_s_own_repository_alone(
    study, tiny, own_data, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    smaller = jax.tree.map(lambda leaf: 0.9 * leaf, tiny.params)
    save_pretrained(other, tiny.model, smaller, tiny.tokenizer)
    directories, asked = {"own/model": tiny.directory, "other/model": other}, set()

    def resolve(name, revision=None, *_):
        asked.add((name, revision))
        return directories[name]

    monkeypatch.setattr(opening.pretrained, "resolve", resolve)
    given = {
        "model": "own/model",
        "revision": "v1",
        "sections": "('shared',)",
        "shared__models": "('other/model',)",
        "shared__pairs": f"('jsonl:{own_data['pairs']}',)",
    }
    assert run.run([*study(tmp_path / "study", **given), "--dry_run"]) == 0
    assert asked == {("own/model", "v1"), ("other/model", None)}


def test_prompts_for_adapted_models_are_chosen_as_the_others_are(study, tiny, own_data, tmp_path):
    rows = [json.loads(line) for line in own_data["prompts"].read_text().splitlines()]
    new = [{"id": f"q{i}", "language": "fr", "prompt": f"Quelle couleur, {i} ?"} for i in range(3)]
    other = {"id": rows[0]["id"], "language": "en", "prompt": "Which colour?"}
    beside = tmp_path / "new.jsonl"
    beside.write_text("".join(json.dumps(row) + "\n" for row in [other, *rows[1:], *new]))
    given = {
        "sections": "('adapt',)",
        "adapt__models": f"('{tiny.directory}',)",
        "adapt__prompts": f"jsonl:{beside}",
        "attack__languages": "en",
        "measure__prompts": "2",
    }
    assert run.run(study(tmp_path / "run", **given)) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    asked = {
        row["language"]: row["n"]
        for row in results["rows"]
        if row["kind"] == "adapted" and row["metric"] == "valid_reply_rate"
    }
    assert asked == {"en": 3, "th": 2, "fr": 2}
    assert list(results["lost"].values()) == [{"prompts of an earlier set": 5}]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["adapted"][0]["uri"] == given["adapt__prompts"]


def test_prompts_for_adapted_models_that_were_trained_on_are_refused(
    study, tiny, own_data, tmp_path, capsys
):
    given = {
        "sections": "('adapt',)",
        "adapt__models": f"('{tiny.directory}',)",
        "adapt__prompts": f"jsonl:{own_data['pairs']}",
    }
    assert run.run([*study(tmp_path, **given), "--dry_run"]) == 2
    assert "12 of the test prompts are also attack pairs" in capsys.readouterr().err
