"""A study whose stages have a copy in an object store, and its machine a fresh disk."""

import pytest

from jaxattack import run, stages, store


@pytest.fixture
def url(tmp_path):
    return f"file://{tmp_path}/bucket/run"


def test_a_study_on_a_fresh_disk_computes_nothing_and_ends_in_the_same_bytes(
    tmp_path, study, monkeypatch, killed_after, capsys, url
):
    options = {"attack__languages": "('en',)", "localize__fractions": "()"}
    with killed_after(2):
        assert run.run([*study(tmp_path / "one", **options), f"--mirror={url}"]) == 130
    computed, whole = [], stages.Stage._finish

    def finish(self, *arguments):
        computed.append(self.label)
        return whole(self, *arguments)

    monkeypatch.setattr(stages.Stage, "_finish", finish)
    assert run.run([*study(tmp_path / "two", **options), f"--mirror={url}"]) == 0
    names = sorted(path.name for path in (tmp_path / "two" / "stages").iterdir())
    assert len(computed) == len(names) - 2  # two were finished by the first
    computed.clear()
    assert run.run([*study(tmp_path / "three", **options), f"--mirror={url}"]) == 0
    assert computed == []
    assert f"weights of attacked models and replies too, to {url}" in capsys.readouterr().err
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("two", "three")]
    assert results[0] == results[1]
    place = store.find(url, "--mirror")
    assert place.read("results.json") == results[0]
    assert {name.split("/")[1] for name in place.matching("stages/*/stage.json")} == set(names)
    for name in ("manifest.json", "config.json", "results.parquet", "trials.parquet"):
        assert place.read(name) == (tmp_path / "three" / name).read_bytes()
    assert len(place.matching("figures/*.png")) == len(list(tmp_path.glob("three/figures/*.png")))


def test_replies_that_are_shown_are_mirrored_only_if_that_is_allowed(tmp_path, study, capsys, url):
    line = [*study(tmp_path / "run", report__replies="True"), f"--mirror={url}", "--dry_run"]
    assert run.run(line) == 2
    assert "allow it by --mirror_replies" in capsys.readouterr().err
    assert not (tmp_path / "bucket").exists()
    assert run.run([*line, "--mirror_replies"]) == 0
    assert run.run([*line[:-2], "--mirror=nowhere", "--dry_run"]) == 2
    assert "--mirror=nowhere: give a URL" in capsys.readouterr().err
