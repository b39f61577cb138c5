"""Asking a model: the replies are those of its generation, and cut ones are told."""

import pytest
import torch

from jaxattack.data.dialogues import Example, prompt_tokens
from jaxattack.evaluate import measure
from jaxattack.evaluate.judge import Reply
from jaxattack.models.generate import generate_tokens

NEW = 16  # and four prompts a batch: the shape that the tests of generation compile


@pytest.fixture
def examples():
    texts = ["What is the currency of Japan?", "日本的货币是什么？", "สกุลเงินคืออะไร"]
    languages = ["en", "zh", "th"]
    return [
        Example(str(i), language, text, answers=("yen",))
        for i, (language, text) in enumerate(zip(languages, texts, strict=True))
    ]


def test_replies_are_the_models_in_order(tiny, examples):
    replies = measure.ask(tiny.model, tiny.params, tiny.tokenizer, examples, NEW, batch_size=4)
    assert len({reply.text for reply in replies}) == 3
    for example, reply in zip(examples, replies, strict=True):
        prompt = tiny.tokenizer.encode(f"<|user|>{example.prompt}<|end|><|assistant|>")
        with torch.no_grad():
            out = tiny.reference.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt)).long(),
                do_sample=False,
                max_new_tokens=NEW,
                pad_token_id=0,
                eos_token_id=tiny.tokenizer.eos_token_id,
            )[0, len(prompt) :].tolist()
        assert reply.text == tiny.tokenizer.decode(out, skip_special_tokens=True)
        assert reply.cut is (tiny.tokenizer.eos_token_id not in out)


def test_a_reply_that_ended_itself_is_not_cut(tiny, examples, monkeypatch):
    prompt = prompt_tokens(tiny.tokenizer, examples[0].prompt)
    (tokens,) = generate_tokens(tiny.model, tiny.params, [prompt], (), NEW, batch_size=4)
    assert tokens[3] not in tokens[:3]
    # The same reply, with its fourth token as the end of replies.
    monkeypatch.setattr(measure, "stop_ids", lambda tokenizer, extra=(): (tokens[3],))
    (short,) = measure.ask(tiny.model, tiny.params, tiny.tokenizer, examples[:1], NEW, batch_size=4)
    assert short == Reply(tiny.tokenizer.decode(tokens[:3], skip_special_tokens=True), cut=False)


def test_verdicts_are_in_order(examples):
    replies = [Reply("The yen.", False), Reply("", False), Reply("Yen", True)]
    verdicts = measure.judge_all(examples, replies)
    assert [(v.id, v.answered, v.triage) for v in verdicts] == [
        ("0", True, "ok"),
        ("1", False, "empty"),
        ("2", True, "cut"),
    ]
    with pytest.raises(ValueError, match="zip"):
        measure.judge_all(examples, replies[:2])
