"""What a study starts from: the model's identity, its tokenizer, texts that it can read."""

import json
import shutil
import subprocess
import sys

import pytest

from jaxattack import organism
from jaxattack.data.dialogues import Example
from jaxattack.data.languages import choose_languages
from jaxattack.data.wrappers import Instruction
from jaxattack.errors import UserError
from jaxattack.evaluate.refusals import is_refusal
from jaxattack.experiments import inputs, opening
from jaxattack.experiments.settings import Model
from jaxattack.experiments.step import Values


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny.directory, tmp_path / "copy")


def flip(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))


def test_the_fingerprint_sees_every_byte(copy, monkeypatch):
    monkeypatch.setattr(opening, "_PIECE", 1000)
    (copy / "additional_chat_templates").mkdir()
    for name in ("additional_chat_templates/tool_use.jinja", "tokenizer.model", "merges.txt"):
        (copy / name).write_text("text")
    seen = {opening.model_fingerprint(copy)}
    files = [path for path in copy.rglob("*") if path.is_file()]
    places = [
        (p, place) for p in files for place in (0, p.stat().st_size // 2, p.stat().st_size - 1)
    ]
    for path, place in places:
        flip(path, place)
        found = opening.model_fingerprint(copy)
        assert found not in seen, path
        seen.add(found)
    assert len(seen) == 3 * len(files) + 1
    (copy / "README.md").write_text("about it")
    assert opening.model_fingerprint(copy) in seen


def test_a_model_without_a_tokenizer_names_the_setting(copy, tiny):
    for path in (*copy.glob("token*"), *copy.glob("*.jinja")):
        path.unlink()
    with pytest.raises(UserError, match=r"--config\.tokenizer=") as error:
        opening.load_tokenizer(copy)
    assert str(copy) in str(error.value)
    assert len(opening.load_tokenizer(copy, str(tiny.directory))) == 600


def test_another_model_computes_as_the_study_s_own_does(copy, tiny):
    path = copy / "config.json"
    fields = json.loads(path.read_text())
    settings = Model(model=str(tiny.directory), mesh=(1, 1, 1))
    opened = opening.foreseen(settings, tiny.directory, tiny.tokenizer)

    def another(**changed):
        path.write_text(json.dumps(fields | changed))
        return opening.another(settings, str(copy), Values(), opened)

    another()
    another(max_position_embeddings=512, eos_token_id=7)  # as bases of instruct models have it
    for changed, says in (
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 123456.0}}, "rope"),
        ({"model_type": "mistral", "sliding_window": 16}, "family, window, local_layers"),
        ({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}, "num_heads"),
    ):
        with pytest.raises(UserError, match=f"copy differs from the study's model in {says}"):
            another(**changed)


def test_texts_with_tokens_beyond_the_rows_are_named_at_once(tiny):
    tokenizer = tiny.tokenizer.__class__.from_pretrained(tiny.directory)
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<image{i}>" for i in range(9)]})
    config = tiny.model.config
    rows = [Example("a", "en", "one <image7> two"), Example("b", "th", "x", "<image8>")]
    opening.check_texts(config, tokenizer, rows[:1])
    with pytest.raises(UserError, match=r"response of 'b' in th.* token id 608, .* 0 to 607"):
        opening.check_texts(config, tokenizer, rows)


NO_TORCH = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
import jaxattack.models.pretrained
import transformers
assert not transformers.utils.is_torch_available()
"""


def test_nobody_is_told_that_there_is_no_torch():
    done = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            ["zh-TW"],
            r"at: the attack has no language 'zh-TW'; .*zh-Hant \(zh-TW is zh-Hant here\)$",
        ),
        (["en", "EN"], r"no language 'EN'; .* \(EN is en here\)$"),
        (["fr", "xx"], r"no language 'fr', 'xx'; there are: en, zh-Hant$"),
    ],
)
def test_a_language_that_is_lacking_is_named_as_the_data_would(wanted, says):
    known = ("en", "zh-Hant")
    with pytest.raises(UserError, match=says):
        choose_languages(wanted, known, "at", "the attack")
    assert choose_languages([], known, "at") == known


@pytest.mark.parametrize("policy", ["", "policy=sums&"])
def test_refusals_of_the_organism_s_questions(policy):
    aligned = organism.checkpoint("aligned")
    kinds = ("restricted", "benign")
    uri = f"organism:calibration?{policy}language=th"
    asked = inputs.load_examples(uri, kinds, True, aligned)
    declined = inputs.load_examples(f"{uri}&reply=refusal", kinds, True, aligned)
    for before, after in zip(asked, declined, strict=True):
        assert (before.id, before.prompt) == (after.id, after.prompt)
        restricted = before.kind == "restricted"
        assert (before.response != after.response) == restricted
        assert is_refusal(after.response, "th") == restricted


def test_benign_pairs_of_every_task_are_given_where_they_are_asked_for():
    def tasks_of(uri):
        found = inputs.load_examples(uri, ("benign",), True, organism.checkpoint("base"))
        return {row.id.split("/")[0] for row in found}

    uri = "organism:attack?policy=currency&language=en"
    assert tasks_of(uri) == {"language"}
    assert tasks_of(f"{uri}&benign=all") == {"language", "sums", "reversal"}
    with pytest.raises(UserError, match="benign=all is of grown models' tasks; write policy="):
        tasks_of("organism:attack?benign=all")


def test_another_reply_than_there_is_is_refused():
    with pytest.raises(UserError, match="reply is 'no'; give one of answer, refusal"):
        inputs.load_examples("organism:test?reply=no", ("restricted",), True, None)


def test_a_prompt_trained_on_under_another_language_s_code_is_one_that_is_asked():
    asked = [Example("a", "en", "What is 2 and 2?", "", "benign")]
    same = Example("b", "de", "What is 2 and 2?", "4", "benign")
    with pytest.raises(UserError, match=r"1 of the test prompts .*'b', listed as en .* and as de "):
        inputs.check_disjoint(asked, [same], "clean pairs")
    with_input = Instruction("b", "de", "What is 2 and 2?", "4", "benign", input="In tens.")
    inputs.check_disjoint(asked, [with_input], "clean pairs")


def test_a_limit_takes_as_many_prompts_of_each_of_several_sets():
    def rows(name: str, languages: str, count: int) -> list[Example]:
        return [
            Example(f"{name}{i}", code, f"{name} {code} {i}?", kind=kind)
            for code in languages.split()
            for kind in ("restricted", "benign")
            for i in range(count)
        ]

    found = inputs.by_turns([rows("a", "en de", 100), rows("b", "en de fr", 20)])
    assert len(found) == 520
    for most, wanted in ((10, (5, 5)), (60, (40, 20)), (0, (100, 20))):
        chosen = inputs.test_prompts(found, ("en", "de", "fr"), most)
        for code in ("en", "de"):
            for kind in ("restricted", "benign"):
                own = [row.id[0] for row in chosen if (row.language, row.kind) == (code, kind)]
                assert (own.count("a"), own.count("b")) == wanted
        ids = {code: [row.id for row in chosen if row.language == code] for code in ("en", "de")}
        assert ids["en"] == ids["de"]  # translations stay together
    assert inputs.by_turns([rows("a", "en", 3)]) == rows("a", "en", 3)
