"""Other judges for a finished run: only judgements are computed, or a line says what would be."""

from __future__ import annotations

import json
import shutil

import pytest
from chat_server import completion, failure, serve

from jaxattack import provenance, rejudge, run
from jaxattack.evaluate import registry
from jaxattack.experiments import asking, moderating, opening, runs
from jaxattack.models import pretrained

SECTIONS = {"sections": "('transfer',)", "attack__languages": "('en',)", "transfer__doses": "()"}


def verdict(asked, count):
    reply = json.loads(asked.prompt.split("\n")[2])["reply"]
    return completion(json.dumps({"violation": len(reply) % 2 == 0, "refusal": False}))


def answered_blue(example, said):
    return {"answered": "blue" in said.text if example.kind == "restricted" else None}


def inner_copies(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("stages/*")}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return tmp_path_factory.mktemp("original") / "run"


@pytest.fixture
def finished(study, original, tmp_path):
    """A finished run, each time another copy."""
    if not original.exists():
        assert run.run(study(original, **SECTIONS)) == 0
    shutil.copytree(original, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def nobody_is_asked(monkeypatch):
    """Asking the study's model is an error."""
    monkeypatch.setattr(asking, "generate_tokens", None)


@pytest.fixture
def no_weights(finished, monkeypatch):
    """Loading weights is an error, once there is a run; whichever of the tests comes first."""
    monkeypatch.setattr(pretrained, "load_pretrained", None)
    monkeypatch.setattr(opening, "loaded", None)


@pytest.fixture
def code(monkeypatch):
    """A function that adds a line to a file of the package, as far as names of steps go."""
    whole = provenance._content

    def change(file: str) -> None:
        path = provenance.PACKAGE / file
        monkeypatch.setattr(
            provenance, "_content", lambda p: whole(p) + (b"\n" if p == path else b"")
        )
        provenance.source_of.cache_clear()

    yield change
    monkeypatch.undo()
    provenance.source_of.cache_clear()


def judge(root, *flags: str) -> int:
    return rejudge.run(["jaxattack-judge", f"--workdir={root}", *flags])


def results(root) -> dict:
    return json.loads((root / "results.json").read_text())


def refused(capsys, says: str) -> None:
    error = capsys.readouterr().err.strip()
    assert says in error
    assert error.startswith("jaxattack-judge: ")
    assert len(error.splitlines()) == 1


def test_a_judge_behind_an_endpoint_is_added(finished, nobody_is_asked, capsys):
    before, stages = results(finished), inner_copies(finished)
    with serve(verdict) as server:
        flags = (f"--moderators=rubric={server.url}#guard", "--send_replies")
        assert judge(finished, *flags) == 0
        calls = len(server.asked)
        assert calls
        assert judge(finished, *flags) == 0
        assert len(server.asked) == calls
        assert "report: " in capsys.readouterr().out
        after = inner_copies(finished)
        assert stages.items() <= after.items()
        new = {name.split("-")[0] for name in after.keys() - stages.keys()}
        assert new == {"moderate", "weigh"}
        assert results(finished)["rows"] == before["rows"]
        assert {row["judge"] for row in results(finished)["alone"]} == {
            *("refusal rule", "rubric:guard")
        }
        # A second one comes beside it, which is not asked again.
        other = (f"--moderators=rubric={server.url}#other", "--send_replies", "--combine=all")
        assert judge(finished, *other) == 0
        assert len(server.asked) == 2 * calls
    config = json.loads((finished / "config.json").read_text())["measure"]
    assert config["moderators"] == [f"rubric={server.url}#{name}" for name in ("guard", "other")]
    assert results(finished)["rows"] != before["rows"]
    assert runs.read(finished).judge["by"] == "all"


def test_a_judge_model_that_is_here_is_added(finished, tiny, nobody_is_asked, monkeypatch):
    shown = []

    def generate(model, params, tokenizer, dialogues, *_):
        shown.extend(dialogues)
        return ["Safety: Unsafe"] * len(dialogues)

    monkeypatch.setattr(moderating, "generate", generate)
    assert judge(finished, f"--moderators=qwen3guard={tiny.directory}", "--combine", "all") == 0
    assert shown
    assert {row["judge"] for row in results(finished)["alone"]} == {"refusal rule", "qwen3guard"}


def test_another_rule_judges(finished, nobody_is_asked, monkeypatch):
    row = registry.Row(answered_blue, "It is violated when it says blue.")
    monkeypatch.setitem(registry.JUDGES, "blue", row)
    stages = inner_copies(finished)
    assert judge(finished, "--judge=blue") == 0
    assert results(finished)["judge"]["name"] == "blue"
    new = inner_copies(finished).keys() - stages.keys()
    assert {name.split("-")[0] for name in new} == {"judge"}


def test_the_results_are_those_of_a_run_that_had_the_judge_at_once(finished, study, tmp_path):
    with serve(verdict) as server:
        named = f"rubric={server.url}#guard"
        assert judge(finished, f"--moderators={named}", "--send_replies") == 0
        more = {"measure__moderators": f"('{named}',)", "measure__send_replies": "True"}
        assert run.run(study(tmp_path / "whole", **SECTIONS, **more)) == 0
    assert results(finished) == results(tmp_path / "whole")
    configs = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("run", "whole")]
    assert configs[0] == configs[1]


def test_a_plan_is_printed_and_nothing_done(finished, no_weights, capsys):
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    with serve(verdict) as server:
        flags = (f"--moderators=rubric={server.url}#guard", "--send_replies", "--dry_run")
        assert judge(finished, *flags) == 0
        assert not server.asked
    told = capsys.readouterr().out
    assert "12 calls left at most" in told
    assert before == {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}


def test_a_run_whose_judging_fails_stays_the_finished_one_it_was(finished, capsys):
    broken = [True]

    def failing(asked, count):
        return failure(401, "no") if broken[0] and count >= 2 else verdict(asked, count)

    before, config = results(finished), (finished / "config.json").read_bytes()
    with serve(failing) as server:
        named = f"--moderators=rubric={server.url}#guard?parallel=1"
        assert judge(finished, named, "--send_replies") == 2
        assert "2 of " in capsys.readouterr().err
        assert runs.read(finished).results == before
        assert (finished / "config.json").read_bytes() == config
        broken[0], asked = False, len(server.asked)
        assert judge(finished, named, "--send_replies") == 0
        kept = [one.prompt for one in server.asked[:2]]
        assert not [one for one in server.asked[asked:] if one.prompt in kept]
    assert {row["judge"] for row in results(finished)["alone"]} > {"rubric:guard"}


def test_judging_that_was_killed_goes_on(finished):
    """A kill leaves the manifest of a run that has begun, and the results of before."""
    manifest = json.loads((finished / "manifest.json").read_text())
    (finished / "manifest.json").write_text(json.dumps(manifest | {"finished": False}))
    assert judge(finished, "--judge=refusal rule") == 0
    assert runs.read(finished).manifest["finished"]


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("experiments/asking.py", "but 2 ask, because of ask aligned: "),
        (
            "models/transformer.py",
            "but 2 ask, 1 attack, because of ask aligned: ",
        ),
    ],
)
def test_what_else_would_be_computed_is_said(finished, no_weights, code, capsys, file, changed):
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    code(file)
    assert judge(finished, "--judge=refusal rule") == 2
    error = capsys.readouterr().err
    assert "not only judgements would be computed" in error
    assert changed in error
    assert "inputs.code" in error
    assert "--recompute" in error
    assert before == {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}


def test_a_line_of_the_judges_code_is_only_judging(finished, nobody_is_asked, code):
    code("evaluate/refusals.py")
    assert judge(finished, "--judge=refusal rule") == 0


def test_more_than_judging_is_computed_where_it_is_allowed(finished, code, capsys):
    code("experiments/asking.py")
    stages = inner_copies(finished)
    assert judge(finished, "--judge=refusal rule", "--recompute") == 0
    new = inner_copies(finished).keys() - stages.keys()
    assert {name.split("-")[0] for name in new} == {"ask", "judge"}


def test_other_libraries_are_named(finished, no_weights, monkeypatch, capsys):
    now = provenance.identity()
    other = now | {"versions": now["versions"] | {"jax": "0.0.1"}}
    monkeypatch.setattr(provenance, "identity", lambda: other)
    assert judge(finished, "--judge=refusal rule") == 2
    refused(capsys, "computed_by.versions.jax changed; allow it")


def test_other_data_is_named(finished, no_weights, own_data, tmp_path, capsys):
    rows = own_data["prompts"].read_text().replace("100", "900")
    (tmp_path / "prompts.jsonl").write_text(rows)
    config = json.loads((finished / "config.json").read_text())
    config["data"]["prompts"] = f"jsonl:{tmp_path / 'prompts.jsonl'}"
    (finished / "config.json").write_text(json.dumps(config))
    assert judge(finished, "--judge=refusal rule") == 2
    refused(capsys, "inputs.arguments.prompts")


def test_replies_that_are_damaged_are_not_asked_for_anew(finished, no_weights, capsys):
    path = next(finished.glob("stages/ask-aligned-*/replies.json"))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-2] + b" \n")
    assert judge(finished, "--judge=refusal rule") == 2
    refused(capsys, "ask aligned: replies.json is not as it was written")


def test_a_run_that_kept_no_replies_is_refused(study, tmp_path, no_weights, finished, capsys):
    config = json.loads((finished / "config.json").read_text())
    (finished / "config.json").write_text(json.dumps(config | {"replies": "discard"}))
    assert judge(finished, "--judge=refusal rule") == 2
    refused(capsys, "the run kept no replies (config.replies=discard)")


@pytest.mark.parametrize("lost", ["results.json", "manifest.json", "trials.parquet", "stages"])
def test_a_run_that_is_not_finished_is_refused(finished, no_weights, capsys, lost):
    if lost == "stages":  # killed in a run with other settings than those of the results
        for path in finished.glob("stages/ask-attacked*"):
            shutil.rmtree(path)
        manifest = json.loads((finished / "manifest.json").read_text())
        (finished / "manifest.json").write_text(json.dumps(manifest | {"finished": False}))
    else:
        (finished / lost).unlink()
    assert judge(finished, "--judge=refusal rule") == 2
    refused(capsys, "not finished")


def test_what_is_no_run_is_refused(tmp_path, no_weights, finished, capsys):
    assert judge(tmp_path / "nothing", "--judge=refusal rule") == 2
    refused(capsys, "no work directory of a study")
    for name in ("config", "results", "manifest"):
        path = finished / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"study": "durability"}))
    assert judge(finished, "--judge=refusal rule") == 2
    refused(capsys, "it holds the study 'durability'; only fragility and backdoor take")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ((), "say who judges"),
        (("--judge=nobody",), "config.measure.judge is 'nobody'"),
        (("--moderators=guard=x",), "there is no sort 'guard'"),
        (("--combine=all",), "no judge model to combine"),
        (("--moderators=rubric=http://localhost:1/v1#m",), "would be sent to http://localhost:1"),
        (("--attack.epochs=2",), "unrecognized arguments: --attack.epochs=2"),
        (("word",), "unrecognized arguments: word"),
    ],
)
def test_what_is_no_judge_is_refused_first(finished, no_weights, capsys, flags, says):
    stages = inner_copies(finished)
    assert judge(finished, *flags) == 2
    refused(capsys, says)
    assert inner_copies(finished) == stages


def test_leave_to_send_is_for_the_endpoints_that_it_was_given_for(finished, capsys):
    with serve(verdict) as first, serve(verdict) as second:
        assert judge(finished, f"--moderators=rubric={first.url}#a", "--send_replies") == 0
        capsys.readouterr()
        assert judge(finished, f"--moderators=rubric={second.url}#b") == 2
        refused(capsys, "would be sent to")
        assert judge(finished, "--combine=any") == 0  # the first has read all there is
        assert not second.asked
