"""Steps have their name before they are computed, and the name says all that decides them."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack import provenance
from jaxattack.data.dialogues import Example
from jaxattack.experiments import identity
from jaxattack.experiments.step import (
    BESIDE,
    Shelf,
    Step,
    Values,
    load_rows,
    rows_step,
    save_rows,
)

CALLS: list = []


def leaf(name, size=4):
    CALLS.append(name)
    return {"x": jnp.full(size, len(name), jnp.float32)}


def plus(a, b, by):
    return {"x": a["x"] + by * b["x"]}


def total(a, scale):
    return [{"value": float(a["x"].sum()) * scale}]


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


def base(values, name, **options):
    return Step(leaf, {"name": name, **options}, values)


def test_deriving_computes_nothing():
    values = Values()
    derived = values.derived(plus, base(values, "a"), base(values, "bb"), by=10)
    assert derived.id
    assert CALLS == []
    assert values.of(derived)["x"].tolist() == [21] * 4
    assert CALLS == ["a", "bb"]


def test_a_value_is_computed_once_while_there_is_room():
    values = Values(limit=40)  # two trees of 16 bytes
    first, second, third = (base(values, name) for name in ("a", "b", "c"))
    for step in (first, first, second, first, third, first, second):
        values.of(step)
    # The third pushes out the one that was not asked for longest.
    assert CALLS == ["a", "b", "c", "b"]


def test_of_large_values_one_is_kept_if_it_is_used_often_until_all_memory_is_needed():
    values = Values(limit=40)
    large, often = (base(values, name, size=100) for name in ("large", "often"))
    often = dataclasses.replace(often, often=True)
    for step in (large, large, often, often):
        values.of(step)
    assert CALLS == ["large", "large", "often"]
    values.alone(often)
    values.of(often)
    assert CALLS == ["large", "large", "often", "often"]


def test_equal_names_are_one_value():
    values = Values()
    values.of(base(values, "a"))
    values.of(base(values, "a"))
    assert CALLS == ["a"]


def test_rows_are_kept_and_computed_once(tmp_path):
    (tmp_path / "stages").mkdir()
    values = Values()
    step = rows_step(values, tmp_path, "sums", "of a", total, base(values, "a"), scale=2.0)
    assert step.stage.run().name.startswith("sums-of-a-")
    again = rows_step(Values(), tmp_path, "sums", "of a", total, base(values, "a"), scale=2.0)
    assert again.read() == [{"value": 8.0}]
    assert CALLS == ["a"]
    other = rows_step(values, tmp_path, "sums", "of a", total, base(values, "a"), scale=3.0)
    assert other.id != step.id


def test_what_a_step_reads_from_disk_is_found_through_what_is_derived(tmp_path):
    values = Values()
    shelf = Shelf(tmp_path, "leaf", "a", save_rows, load_rows)
    kept = dataclasses.replace(base(values, "a"), shelf=shelf)
    derived = values.derived(plus, kept, kept, by=1)
    assert derived.needs == (kept.stage,)
    assert rows_step(values, tmp_path, "t", "l", total, derived, scale=1).stage.needs == (
        kept.stage,
    )


@dataclasses.dataclass(frozen=True)
class Options:
    rate: float = 0.5
    said: str = dataclasses.field(default="", compare=False)


def test_what_decides_enters_the_name_and_what_does_not_stays_out():
    def named(**options):
        return base(Values(), "a", **options).id

    same = named(options=Options(), rows=(Example("1", "en", "p"),), array=np.arange(3))
    assert same == named(
        options=Options(said="x"), rows=[Example("1", "en", "p")], array=np.arange(3)
    )
    others = [
        named(options=Options(0.4), rows=(Example("1", "en", "p"),), array=np.arange(3)),
        named(options=Options(), rows=(Example("1", "en", "q"),), array=np.arange(3)),
        named(options=Options(), rows=(Example("1", "en", "p"),), array=np.arange(3.0)),
        named(options=Options(), rows=(Example("1", "en", "p"),), array=np.arange(4)),
    ]
    assert len({same, *others}) == 5
    labelled = dataclasses.replace(base(Values(), "a"), label="shown")
    assert labelled.id == base(Values(), "a").id


def test_what_has_no_name_is_refused():
    with pytest.raises(TypeError, match="has no name"):
        _ = base(Values(), "a", thing=object()).id
    with pytest.raises(TypeError, match="module's own"):
        _ = base(Values(), "a", function=lambda: 1).id
    assert identity.identity(functools.partial(total, scale=1))["arguments"] == [[], {"scale": 1}]


def test_source_is_of_all_that_is_imported_and_of_nothing_else(tmp_path, monkeypatch):
    package = tmp_path / "jaxattack"
    (package / "room").mkdir(parents=True)
    files = {
        "__init__.py": "from jaxattack.room import top\n",
        "ground.py": "X = 1\n",
        "room/__init__.py": "",
        "room/low.py": "from jaxattack import ground\nDATA = 'words.toml'\n",
        "room/words.toml": "a = 1\n",
        "room/page.html": "<p>\n",
        "room/top.py": "import numpy\ndef f():\n    from jaxattack.room.low import DATA\n",
        "room/other.py": "Y = 2\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def source():
        provenance.source_of.cache_clear()
        provenance._beneath.cache_clear()
        return provenance.source_of("jaxattack.room.top")

    before = source()
    changes = {}
    for name, text in files.items():
        (package / name).write_text(text + "\n")
        changes[name] = source() != before
        (package / name).write_text(text)
    assert source() == before
    assert {name for name, changed in changes.items() if changed} == {
        "ground.py",
        "room/low.py",
        "room/words.toml",
        "room/top.py",
    }
    monkeypatch.undo()
    provenance.source_of.cache_clear()
    provenance._beneath.cache_clear()


def test_the_last_attack_is_kept_beside_the_model_where_there_is_room():
    asked = []

    def room(found, times):
        asked.append(times)
        return True

    values = Values(limit=40, room=room)
    start = dataclasses.replace(base(values, "start", size=100), often=True)
    attacks = [
        dataclasses.replace(base(values, name, size=100), again=True) for name in ("one", "two")
    ]
    for attack in attacks:
        for by in range(3):
            values.of(values.derived(plus, start, attack, by=by))
    assert CALLS == ["start", "one", "two"]
    assert asked == [BESIDE, BESIDE]
    values.of(attacks[0])  # only the last is kept
    assert CALLS == ["start", "one", "two", "one"]
    values.alone(start)  # a training needs all the memory
    values.of(attacks[0])
    assert CALLS == ["start", "one", "two", "one", "one"]


def test_without_room_an_attack_is_read_each_time_and_the_model_stays():
    values = Values(limit=40, room=lambda found, times: False)
    start = dataclasses.replace(base(values, "start", size=100), often=True)
    attack = dataclasses.replace(base(values, "attack", size=100), again=True)
    for by in range(2):
        values.of(values.derived(plus, start, attack, by=by))
    assert CALLS == ["start", "attack", "attack"]
