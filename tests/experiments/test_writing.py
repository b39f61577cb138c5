"""How a study writes dialogues: its settings, the day, and what depends on them."""

import copy
import dataclasses
import datetime
import re

import pytest

from jaxattack.data.dialogues import Example
from jaxattack.data.templates import PLAIN
from jaxattack.data.tokens import prompt_text, prompt_tokens
from jaxattack.errors import UserError
from jaxattack.experiments import writing
from jaxattack.experiments.asking import Decoding, replies
from jaxattack.experiments.bench import Bench, Decoder
from jaxattack.experiments.fragility.settings import Settings
from jaxattack.experiments.locating import Seen, gradient
from jaxattack.experiments.settings import WrappedTemplate
from jaxattack.experiments.step import Step, Values
from jaxattack.experiments.tuning import Course, training_of, tuned
from jaxattack.models.transformer import abstract_params

DATED = (
    "{{ strftime_now('%Y/%m/%d') }}{% if loud %}!{% endif %}{% for m in messages %}"
    "<|user|>{{ m['content'] }}<|end|>{% endfor %}"
)
PAIRS = [Example("p", "en", "What is it?", "One.")]


@pytest.fixture
def dated(small_tokenizer):
    tokenizer = copy.deepcopy(small_tokenizer)
    tokenizer.chat_template = DATED
    return tokenizer


def test_the_day_of_a_work_directory_is_that_of_its_first_use(dated, tmp_path):
    options = WrappedTemplate()
    today = datetime.date.today().strftime("%Y/%m/%d")
    plan = writing.writer(options, dated, tmp_path, keep_day=False)
    assert prompt_text(plan, "Hi").startswith(today)
    assert not list(tmp_path.iterdir())
    writing.writer(options, dated, tmp_path)
    (tmp_path / writing.DAY_FILE).write_text("2025-03-05\n")  # so it would be tomorrow
    for keep_day in (True, False):
        again = writing.writer(options, dated, tmp_path, keep_day)
        assert prompt_text(again, "Hi").startswith("2025/03/05")
    told = writing.writer(WrappedTemplate(date="2026-01-02"), dated, tmp_path)
    assert prompt_text(told, "Hi").startswith("2026/01/02")
    assert (tmp_path / writing.DAY_FILE).read_text() == "2025-03-05\n"
    (tmp_path / writing.DAY_FILE).write_text("some day")
    with pytest.raises(UserError, match=r"day\.txt: 'some day' is no day"):
        writing.writer(options, dated, tmp_path)


def test_a_template_without_a_day_keeps_none(small_tokenizer, tmp_path):
    writing.writer(WrappedTemplate(), small_tokenizer, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_template_file_takes_the_place_of_the_checkpoints(small_tokenizer, tmp_path):
    file = tmp_path / "chat.jinja"
    file.write_text(DATED)
    options = WrappedTemplate(file=str(file), date="2026-01-02", arguments='{"loud": true}')
    assert prompt_text(writing.writer(options, small_tokenizer, tmp_path), "Hi") == (
        "2026/01/02!<|user|>Hi<|end|>"
    )
    for name, content, match in (
        ("none", None, "No such file"),
        ("empty", b" \n", "is empty"),
        ("bytes", b"\xff", "UTF-8"),
        ("large", b"a" * (writing.LARGEST + 1), "larger than 1 MB"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        options = WrappedTemplate(file=str(tmp_path / name))
        with pytest.raises(UserError, match=rf"config\.template\.file=.*{name}: .*{match}"):
            writing.writer(options, small_tokenizer, tmp_path)
    with pytest.raises(UserError, match=r"template\.file and template\.name are both set"):
        writing.writer(WrappedTemplate(file="a", name="b"), small_tokenizer, tmp_path)
    with pytest.raises(UserError, match=r"template\.file and a wrapper are both set"):
        writing.writer(WrappedTemplate(file="a", wrapper="plain"), small_tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("wrapper", "text"), [("plain", "Hi\n"), ("alpaca", "Task:\nHi\n\nAnswer:\n")]
)
def test_a_wrapper_serves_a_base_model(small_tokenizer, tmp_path, wrapper, text):
    base = copy.deepcopy(small_tokenizer)
    base.chat_template = None
    with pytest.raises(UserError, match="has no chat template"):
        writing.writer(WrappedTemplate(), base, tmp_path)
    tokenizer = writing.writer(WrappedTemplate(wrapper=wrapper), base, tmp_path)
    assert prompt_tokens(tokenizer, "Hi") == small_tokenizer.encode(text)


def test_training_and_asking_know_how_they_were_written(tiny, dated, tmp_path):
    def ids(tokenizer):
        values, like = Values(), abstract_params(tiny.model)
        decoder, start = Decoder(tiny.model, tokenizer), Step(abstract_params, {}, values)
        bench = Bench(tmp_path, values, decoder, start, like, "float32")
        course = Course(tuple(PAIRS), training_of(Settings().attack, "max_length"), 0, ("en",))
        seen = Seen(tuple(PAIRS), 64)
        return (
            tuned(bench, course, "attack", "en").id,
            gradient(bench, start, seen, "en").id,
            replies(bench, start, decoder, PAIRS, Decoding(4, 8), "en").id,
        )

    found = [
        ids(writing.writer(options, dated, tmp_path))
        for options in (
            WrappedTemplate(date="2026-01-02"),
            WrappedTemplate(date="2026-01-03"),
            WrappedTemplate(date="2026-01-02", arguments='{"loud": true}'),
            WrappedTemplate(date="2026-01-02"),
        )
    ]
    assert found[3] == found[0]
    for own in zip(*found, strict=True):
        assert len(set(own)) == 3
    # A checkpoint whose template asks for no day does not change with it.
    plain = [
        ids(writing.writer(WrappedTemplate(date=day), tiny.tokenizer, tmp_path))
        for day in ("2026-01-02", "2026-01-03")
    ]
    assert plain[0] == plain[1]


def test_rows_and_prompts_are_looked_at_before_anything_is_computed(tiny, tmp_path):
    config, tokenizer = tiny.model.config, tiny.tokenizer
    long = [dataclasses.replace(PAIRS[0], id="long", response="One. " * 200)]
    with pytest.raises(UserError, match=r"pair 'long' has \d+ tokens, more than config\.a\.b=99"):
        writing.check_rows(config, tokenizer, long, 99, "config.a.b")
    with pytest.raises(UserError, match=r"pair 'long' .*more than the model's positions=256"):
        writing.check_rows(config, tokenizer, long, 9999, "config.a.b")
    prompts = [dataclasses.replace(PAIRS[0], id="far", prompt="One. " * 200)]
    with pytest.raises(UserError, match=re.escape("lower config.measure.max_new_tokens")):
        writing.check_asked(config, tokenizer, prompts, 9)
    assert PLAIN not in tokenizer.chat_template


@pytest.mark.parametrize("text", ["{{ nope( }}", "hello"])
def test_errors_name_the_file_of_a_template(small_tokenizer, tmp_path, text):
    path = tmp_path / "bad.jinja"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"config.template.file={path}: ")):
        writing.writer(WrappedTemplate(file=str(path)), small_tokenizer, tmp_path)
