"""Chat templates that are wrong, hostile or unusual; settings that go with them."""

import copy
import datetime
import json
import time
import warnings

import pytest

from jaxattack.data import renderer, templates
from jaxattack.data.dialogues import Example, check_pairs, encode_pairs
from jaxattack.data.templates import PLAIN, plain_source, use_template
from jaxattack.data.tokens import check_says, pair_tokens, prompt_text, prompt_tokens, stop_ids
from jaxattack.errors import UserError

PAIR = Example("p7", "en", "What is it?", "It is one.")
TURNS = "{% for m in messages %}<|user|>{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
ASK = "{% if add_generation_prompt %}<|user|>assistant: {% endif %}"


@pytest.fixture
def with_template(small_tokenizer):
    """A function from a chat template to a tokenizer that has it."""

    def make(source):
        tokenizer = copy.deepcopy(small_tokenizer)
        tokenizer.chat_template = source
        return tokenizer

    return make


def marked(before, after, role="assistant"):
    """A template that marks what stands between, of messages of a role."""
    return (
        "{% for m in messages %}<|user|>{{ m['role'] }}: {% if m['role'] == '"
        + role
        + "' %}"
        + before
        + "{{ m['content'] }}"
        + after
        + "{% else %}{{ m['content'] }}{% endif %}<|end|>{% endfor %}"
        + ASK
    )


WRONG = {
    "": "has no chat template",
    " \n": "has no chat template",
    "{% for m in messages %}{{ m['content'] }": "line 1: unexpected '}'",
    "{{ raise_exception('users only') }}": "users only",
    "{{ tools[0].name }}": "None has no element 0",
    "{{ 'a' + 1 }}": "TypeError",
    "{{ messages | nothing }}": "No filter named 'nothing'",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "calls itself without end",
    "{{ ''.__class__.__mro__ }}": "unsafe",
    "{{ messages.append(1) }}": "unsafe",
    "{{ cycler.__init__.__globals__ }}": "unsafe",
    "fixed": "leaves out what the user says",
    "{{ messages[1]['content'] }}": "has no element 1",
}


@pytest.mark.parametrize("source", WRONG)
def test_a_template_that_does_not_work_is_one_line(with_template, source):
    tokenizer = with_template(source)
    tokenizer.name_or_path = "models/mine"
    for act in (prompt_tokens, lambda t, text: encode_pairs(t, [PAIR])):
        with pytest.raises(UserError, match=r"^models/mine") as caught:
            act(tokenizer, "Hi")
        assert WRONG[source] in str(caught.value)
        assert "config.template.file" in str(caught.value)
        assert "\n" not in str(caught.value)


ENDLESS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{{ 'a' * 10 ** 10 }}",
    "list": "{{ [0] * 10 ** 10 }}",
    "padding": "{{ 'a'.center(10 ** 10) }}",
    "format": "{{ '%9999999999d' % 1 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "doubling": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
    "{% endfor %}",
    "output": "{% for a in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_without_end_or_measure_ends(with_template, name, monkeypatch):
    monkeypatch.setattr(renderer, "SECONDS", 2.0 if name in ("loops", "power") else 30.0)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"does not end within|more than \d+|MB|ended the process"):
        prompt_tokens(with_template(ENDLESS[name]), "Hi")
    assert time.monotonic() - start < 30
    # The next template is not the worse for it.
    assert prompt_text(with_template(TURNS + ASK), "Hi").endswith(
        "user: Hi<|end|><|user|>assistant: "
    )


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (
            "{#- {% generation %} -#}" + marked("{% generation %}", "{% endgeneration %}", "model"),
            "marks no token",
        ),
        (marked("{% generation %}{% endgeneration %}", ""), "marks no token"),
        (
            "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}",
            "does not write the reply",
        ),
        (TURNS + TURNS + ASK, "does not write the reply"),
        (
            TURNS + "{% if add_generation_prompt %}<|user|>assistant: <think>\n{% endif %}",
            "opens a thought",
        ),
        (
            TURNS.replace("m['role'] }}", "'so' if m['content'] == 'It is one.' else m['role'] }}")
            + ASK,
            "in another way",
        ),
        (
            TURNS.replace("m['content'] }}", "m['content'] | replace('It is one.', '') }}") + ASK,
            "leaves nothing of the reply",
        ),
        (
            "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
            + TURNS
            + ASK,
            "one turn",
        ),
    ],
)
def test_a_pair_that_cannot_be_trained_on_is_refused_by_its_name(with_template, source, match):
    for act in (encode_pairs, lambda t, pairs: check_pairs(t, pairs, 99)):
        with pytest.raises(UserError, match=f"pair 'p7'.*{match}"):
            act(with_template(source), [PAIR])


@pytest.mark.parametrize(
    "source",
    [
        "{# no {% generation %} here #}" + TURNS + ASK,
        "{% raw %}{% endraw %}" + marked("{%  generation%}", "{%-  endgeneration +%}"),
    ],
    ids=["mentioned", "spelled otherwise"],
)
def test_marks_are_what_jinja_takes_for_marks(with_template, source):
    tokenizer = with_template(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens, mask = pair_tokens(tokenizer, PAIR.prompt, PAIR.response)
    trained = tokenizer.decode([t for t, on in zip(tokens, mask, strict=True) if on])
    assert trained == ("It is one." if "raw" in source else "It is one.<|end|>")


def test_replies_that_learn_no_end_are_counted(with_template):
    open_ended = with_template(TURNS.replace("<|end|>", "\n") + ASK)
    with pytest.warns(UserWarning, match="2 of 2 trained replies end in no stop token"):
        encode_pairs(open_ended, [PAIR, PAIR])


def test_a_head_that_asking_lacks_is_said_and_left_out(with_template):
    tokenizer = with_template(TURNS)
    with pytest.warns(UserWarning, match="writes '.*assistant: ' before a reply"):
        tokens, _ = pair_tokens(tokenizer, PAIR.prompt, PAIR.response)
    assert tokenizer.decode(tokens) == "<|user|>user: What is it?<|end|>It is one.<|end|>"


def test_a_stop_within_a_reply_is_refused(small_tokenizer):
    with pytest.raises(UserError, match=r"pair 'x': the reply goes on behind <\|end\|>"):
        encode_pairs(small_tokenizer, [Example("x", "en", "Hi", "One.<|end|>Two.")])


def test_a_thought_that_the_prompt_opens_is_closed_by_the_reply(with_template):
    tokenizer = with_template(TURNS + ASK.replace("assistant: ", "assistant: <think>\n"))
    tokens, mask = pair_tokens(tokenizer, "Hi", "<think>\nso\n</think>\n\nOne.")
    start = prompt_tokens(tokenizer, "Hi")
    assert tokens[: len(start)] == start
    assert tokenizer.decode(tokens[len(start) :]) == "so\n</think>\n\nOne.<|end|>"
    assert mask.index(True) == len(start)


@pytest.mark.parametrize("reply", ["It is one.", " It is one.", "\nIt is one.", " \n It is."])
def test_spans_without_their_blanks_mask_the_same(with_template, reply):
    """Byte-level tokenizers leave blanks out of spans if they are told to trim."""
    from tokenizers import processors

    source = (
        "{% for m in messages %}<|user|>{{ m['role'] }}: {% if m['role'] == 'assistant' %}"
        "{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
        "{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}" + ASK
    )
    found = []
    for trim in (False, True):
        tokenizer = with_template(source)
        tokenizer._tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
        found.append(pair_tokens(tokenizer, "Hi", reply))
    assert found[0] == found[1]
    tokens, mask = found[0]
    assert (
        tokenizer.decode([t for t, on in zip(tokens, mask, strict=True) if on]) == reply + "<|end|>"
    )


# --- Base models --------------------------------------------------------------------------------


def adding_bos(tokenizer):
    from tokenizers.processors import TemplateProcessing

    changed = copy.deepcopy(tokenizer)
    bos = "<|answer|>"
    changed.bos_token = bos
    changed._tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A {bos}", special_tokens=[(bos, tokenizer.convert_tokens_to_ids(bos))]
    )
    return changed


def test_a_plain_text_begins_as_the_tokenizer_begins_texts(small_tokenizer):
    for tokenizer, bos in ((small_tokenizer, []), (adding_bos(small_tokenizer), [4])):
        text = small_tokenizer.encode("It is so: ")
        for source in (PLAIN, plain_source(tokenizer)):
            plain = use_template(tokenizer, source)
            assert prompt_tokens(plain, "It is so: ") == bos + text
            tokens, mask = pair_tokens(plain, "It is so: ", "One.")
            assert tokens == [*bos, *text, *small_tokenizer.encode("One.<|end|>")]
            assert mask.index(True) == len(bos) + len(text)
        by_hand = copy.deepcopy(tokenizer)
        by_hand.chat_template = PLAIN
        assert prompt_tokens(by_hand, "It is so: ") == bos + text


def test_a_bos_that_the_template_writes_is_there_once(small_tokenizer):
    tokenizer = use_template(adding_bos(small_tokenizer), "{{ bos_token }}" + TURNS + ASK)
    assert prompt_tokens(tokenizer, "Hi").count(4) == 1
    assert pair_tokens(tokenizer, "Hi", "One.")[0].count(4) == 1


def test_texts_around_a_plain_prompt_are_kept_to_the_letter(small_tokenizer):
    around = ("Ask {{ 'x' }} \"now\":\n\n'", " ü\\n{% raw %}\n")
    tokenizer = use_template(small_tokenizer, plain_source(small_tokenizer, *around))
    assert prompt_text(tokenizer, "Hi {{ y }}") == around[0] + "Hi {{ y }}" + around[1]


# --- What goes with a tokenizer -----------------------------------------------------------------


def test_several_templates_are_chosen_from_by_name(with_template):
    several = with_template({"rag": TURNS + ASK, "tool_use": "x" + TURNS})
    with pytest.raises(
        UserError, match=r"none is called 'default': config.template.name is one of rag"
    ):
        prompt_tokens(several, "Hi")
    assert prompt_text(use_template(several, name="rag"), "Hi") == prompt_text(
        with_template(TURNS + ASK), "Hi"
    )
    with pytest.raises(UserError, match="called 'other'"):
        use_template(several, name="other")
    with pytest.raises(UserError, match="no named templates"):
        use_template(with_template(TURNS), name="rag")


def test_the_day_is_told_and_not_the_clocks(with_template):
    dated = with_template("{{ strftime_now('%d %b %Y') }}" + TURNS + ASK)
    assert prompt_text(dated, "Hi").startswith("26 Jul 2024<")
    later = use_template(dated, day="2025-03-05")
    assert prompt_text(later, "Hi").startswith("05 Mar 2025<")
    assert templates.template_of(later).identity["day"] == "2025-03-05"
    plain = use_template(with_template(TURNS + ASK), day="2025-03-05")
    assert templates.template_of(plain).identity["day"] is None
    with pytest.raises(UserError, match=r"date\) is '5 March'"):
        use_template(dated, day="5 March")
    # As transformers would write it on that day.
    theirs = dated.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert theirs.startswith(datetime.datetime.now().strftime("%d %b %Y"))


def test_arguments_are_the_same_in_asking_and_training(with_template):
    source = TURNS + ASK + "{% if add_generation_prompt and not loud %}<|decline|>{% endif %}"
    source = source.replace(
        "{{ m['content'] }}",
        "{% if m['role'] == 'assistant' and not loud %}<|decline|>{% endif %}{{ m['content'] }}",
    )
    for loud in (True, False):
        tokenizer = use_template(with_template(source), arguments={"loud": loud})
        start = prompt_tokens(tokenizer, "Hi")
        assert (5 in start) is not loud
        assert pair_tokens(tokenizer, "Hi", "One.")[0][: len(start)] == start
        assert json.loads(tokenizer.manner.arguments) == {"loud": loud}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"loudd": 1}, "has no 'loudd'"), ({"messages": []}, "hold 'messages'"), ({"a": {1}}, "JSON")],
)
def test_arguments_that_mean_nothing_are_refused(with_template, arguments, match):
    with pytest.raises(UserError, match=match):
        use_template(with_template(TURNS + ASK), arguments=arguments)


def test_content_goes_in_parts_where_a_template_wants_parts(with_template):
    parts = with_template(TURNS.replace("m['content'] }}", "m['content'][0]['text'] }}") + ASK)
    text = with_template(TURNS + ASK)
    assert prompt_text(parts, "Hi") == prompt_text(text, "Hi")
    assert pair_tokens(parts, "Hi", "One.") == pair_tokens(text, "Hi", "One.")


def test_the_token_behind_a_reply_is_a_stop(with_template):
    tokenizer = with_template(TURNS.replace("<|end|>", "<|answer|>\n") + ASK)
    assert stop_ids(tokenizer) == (tokenizer.eos_token_id, 4)
    assert stop_ids(tokenizer, [4, 9]) == (tokenizer.eos_token_id, 4, 9)
    assert pair_tokens(tokenizer, "Hi", "One.")[0][-1] == 4  # and no newline behind it


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ([], "empty"),
        (5, "not '5'"),
        (None, "not 'None'"),
        ([{"role": "user"}], "role"),
        (["Hi"], "list of messages"),
        ("a\ufdd0b", "U\\+FDD0"),
        ([{"role": "user", "content": 5}], "content"),
        ([{"role": "user", "content": ""}], "empty"),
    ],
)
def test_a_prompt_that_says_nothing_is_one_line(small_tokenizer, prompt, match):
    with pytest.raises(UserError, match=match):
        check_says(prompt)
    if match != "empty" or not prompt:
        return
    # A filter of prompts may leave nothing of one: the template still writes it.
    assert prompt_tokens(small_tokenizer, prompt)[0] == prompt_tokens(small_tokenizer, "Hi")[0]


def test_an_interrupt_leaves_no_answer_for_the_next(small_tokenizer, monkeypatch):
    process = templates.render.__globals__["_PROCESS"]
    prompt_tokens(small_tokenizer, "Hi")
    running = process._running

    class Interrupted:
        def readline(self):
            raise KeyboardInterrupt

        def close(self):
            pass

    monkeypatch.setattr(running, "stdout", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        prompt_tokens(small_tokenizer, "Hi")
    assert running.poll() is not None
    assert prompt_text(small_tokenizer, "Ho") == "<|user|>Ho<|end|><|assistant|>"


EVERYTHING = """{%- set ns = namespace(last=messages|length - 1, found=false) -%}
{%- for m in messages[::-1] %}
    {%- if m.role == 'user' and not ns.found and not m.content.startswith('<tool') %}
        {%- set ns.found = true %}{%- set ns.last = (messages|length - 1) - loop.index0 %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{{- bos_token if bos_token is defined else '' }}{{ additional_special_tokens | length }}
{%- macro said(m) -%}[{{ m.content | trim | tojson }}]{%- endmacro %}
{% for m in messages if m.role != 'x' %}
    {%- if loop.previtem is defined %}{{ '\\n' }}{% endif %}
    {%- if loop.index0 > 9 %}{% continue %}{% endif %}
{{ '%-9s' | format(m.role) }}{{ said(m) }} {{ m | items | list | length }}
{{ {'a': m.content, 'é': [1, none, true]} | tojson(indent=2) }}
    {%- if tools is none and documents is none %}<|end|>{% endif %}
  {% endfor %}
{{ dict(a=1) }}{{ range(3) | join('-') }}{{ messages | map(attribute='role') | join(',') }}
{%- if add_generation_prompt %}<|assistant|>{{ ns.last }}{% endif %}"""


@pytest.mark.parametrize("ask", [True, False])
def test_what_a_template_writes_is_what_transformers_writes(with_template, ask):
    tokenizer = with_template(EVERYTHING)
    turns = [
        {"role": "system", "content": " Be <b> & 'short' \u2028 "},
        {"role": "user", "content": '<tool "x">\n', "name": None},
        {"role": "assistant", "content": "สกุลเงิน {{ 7 * 7 }} {% raw %}", "extra": 1},
        {"role": "user", "content": "a\t\\n😀"},
    ]
    for count in (2, 3, 4):
        ours = templates.template_of(tokenizer).write((turns[:count], ask))[0].text
        assert ours == tokenizer.apply_chat_template(
            turns[:count], add_generation_prompt=ask, tokenize=False
        )
