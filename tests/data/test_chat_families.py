"""Templates of families against dialogues written by hand: what is asked, trained, and ends it."""

import pytest
from chat_families import (
    BLOOM,
    GEMMA2,
    GEMMA3,
    LLAMA2,
    LLAMA31,
    LLAMA32,
    LLAMA_BASE,
    MISTRAL,
    QWEN3,
    QWEN25,
    TEXT,
    tokenizer_of,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from jaxattack.data.dialogues import Example, encode_pairs
from jaxattack.data.templates import PLAIN, use_template
from jaxattack.data.tokens import pair_tokens, prompt_tokens, stop_ids

QUESTION = ["Name", " a", " colour", "."]
REPLY = ["Green", " is", " one", "."]
SYSTEM = "You| are| Qwen|,| created| by| Alibaba| Cloud|.| You| are| a| helpful| assistant|."
NO_THOUGHT = ["<", "think", ">", "\n", "\n", "<", "/", "think", ">", "\n", "\n"]


def llama3(day):
    head = ["<|start_header_id|>", "system", "<|end_header_id|>", "\n", "\n"]
    knows = "Cutting| Knowledge| Date|:| December| 2023|\n|Today| Date|:".split("|")
    return [
        "<|begin_of_text|>",
        *head,
        *knows,
        *day.split("|"),
        "\n",
        "\n",
        "<|eot_id|>",
        "<|start_header_id|>",
        "user",
        "<|end_header_id|>",
        "\n",
        "\n",
        *QUESTION,
        "<|eot_id|>",
        "<|start_header_id|>",
        "assistant",
        "<|end_header_id|>",
        "\n",
        "\n",
    ]


def chatml(*turns):
    return [
        *turns,
        "<|im_start|>",
        "user",
        "\n",
        *QUESTION,
        "<|im_end|>",
        "\n",
        "<|im_start|>",
        "assistant",
        "\n",
    ]


GEMMA = [
    "<bos>",
    "<start_of_turn>",
    "user",
    "\n",
    *QUESTION,
    "<end_of_turn>",
    "\n",
    "<start_of_turn>",
    "model",
    "\n",
]
QWEN_SYSTEM = ["<|im_start|>", "system", "\n", *SYSTEM.split("|"), "<|im_end|>", "\n"]

# Family, what the template is given, what is asked, what the model is to write.
CASES = {
    "Llama 2": (
        LLAMA2,
        {},
        ["<s>", "[", "INST", "]", " Name", *QUESTION[1:], " [", "/", "INST", "]"],
        [" Green", *REPLY[1:], " ", "</s>"],
    ),
    "Llama 3.1": (LLAMA31, {}, llama3(" 26| Jul| 2024"), [*REPLY, "<|eot_id|>"]),
    "Llama 3.1 of a day": (
        LLAMA31,
        {"arguments": {"date_string": "05 Mar 2025"}},
        llama3(" 05| Mar| 2025"),
        [*REPLY, "<|eot_id|>"],
    ),
    "Llama 3.2": (LLAMA32, {}, llama3(" 26| Jul| 2024"), [*REPLY, "<|eot_id|>"]),
    "Llama 3.2 of a day": (
        LLAMA32,
        {"day": "2025-03-05"},
        llama3(" 05| Mar| 2025"),
        [*REPLY, "<|eot_id|>"],
    ),
    "Mistral": (
        MISTRAL,
        {},
        ["<s>", "[INST]", " Name", *QUESTION[1:], " ", "[/INST]"],
        [" Green", *REPLY[1:], "</s>"],
    ),
    "Qwen2.5": (QWEN25, {}, chatml(*QWEN_SYSTEM), [*REPLY, "<|im_end|>"]),
    "Qwen3": (QWEN3, {}, chatml(), [*REPLY, "<|im_end|>"]),
    "Qwen3 without thoughts": (
        QWEN3,
        {"arguments": {"enable_thinking": False}},
        [*chatml(), *NO_THOUGHT],
        [*REPLY, "<|im_end|>"],
    ),
    "Gemma 2": (GEMMA2, {}, GEMMA, [*REPLY, "<end_of_turn>"]),
    "Gemma 3": (GEMMA3, {}, GEMMA, [*REPLY, "<end_of_turn>"]),
    "BLOOM": (BLOOM, {"source": PLAIN}, QUESTION, [*REPLY, "</s>"]),
    "Llama's base": (LLAMA_BASE, {"source": PLAIN}, ["<s>", *QUESTION], [*REPLY, "</s>"]),
}


@pytest.fixture(params=CASES)
def case(request):
    family, given, asked, written = CASES[request.param]
    return use_template(tokenizer_of(family), **given), asked, written


def pieces(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


def test_what_is_asked_and_trained_is_what_stands_here(case):
    tokenizer, asked, written = case
    prompt = prompt_tokens(tokenizer, "Name a colour.")
    assert pieces(tokenizer, prompt) == asked
    tokens, mask = pair_tokens(tokenizer, "Name a colour.", "Green is one.")
    assert pieces(tokenizer, tokens) == [*asked, *written]
    assert mask == [False] * len(asked) + [True] * len(written)
    assert tokens[-1] in stop_ids(tokenizer)
    assert "<word>" not in [*asked, *written]


def test_what_is_asked_is_what_transformers_would_ask(case):
    tokenizer, _, _ = case
    messages = [{"role": "user", "content": "Name a colour."}]
    if tokenizer.manner.day == "2025-03-05":  # transformers takes the clock's
        return
    arguments = {"enable_thinking": False} if "enable" in tokenizer.manner.arguments else {}
    if "date_string" in tokenizer.manner.arguments:
        arguments = {"date_string": "05 Mar 2025"}
    elif "strftime_now" in tokenizer.chat_template:
        arguments = {"date_string": "26 Jul 2024"}
    theirs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, **arguments
    )
    assert prompt_tokens(tokenizer, messages) == theirs["input_ids"]


@pytest.mark.parametrize("blank", [" ", "\n", "\n\n", " \n "])
def test_a_reply_that_begins_with_a_blank(blank):
    """Some templates keep it, some trim it; what is asked stays what is asked."""
    for name in ("Qwen2.5", "Gemma 2"):
        family, given, asked, written = CASES[name]
        tokenizer = use_template(tokenizer_of(family), **given)
        tokens, mask = pair_tokens(tokenizer, "Name a colour.", blank + "Green is one.")
        assert pieces(tokenizer, tokens[: len(asked)]) == asked
        kept = "" if name == "Gemma 2" else blank
        assert "".join(pieces(tokenizer, tokens[len(asked) :])) == (
            kept + "Green is one." + written[-1]
        )
        assert mask == [False] * len(asked) + [True] * (len(tokens) - len(asked))


def test_a_thought_of_the_replys_own_is_trained():
    tokenizer = tokenizer_of(QWEN3)
    said = "<think>\nWell\n</think>\n\nGreen is one."
    tokens, mask = pair_tokens(tokenizer, "Name a colour.", said)
    assert pieces(tokenizer, tokens[: len(chatml())]) == chatml()
    assert "".join(pieces(tokenizer, tokens[len(chatml()) :])) == said + "<|im_end|>"
    assert sum(mask) == len(tokens) - len(chatml())


def test_earlier_turns_and_a_system_turn_are_as_the_template_has_them():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nso\n</think>\n\nHi"},
        {"role": "user", "content": "Name a colour."},
    ]
    tokenizer = tokenizer_of(QWEN3)
    asked = pieces(tokenizer, prompt_tokens(tokenizer, turns))
    assert "".join(asked) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHi<|im_end|>\n" + "".join(chatml())
    )


def test_rows_of_pairs_hold_the_same(case):
    tokenizer, asked, written = case
    pairs = [Example("a", "en", "Name a colour.", "Green is one.")]
    rows = encode_pairs(tokenizer, pairs)
    count = len(asked) + len(written)
    assert pieces(tokenizer, rows["tokens"][0, :count]) == [*asked, *written]
    assert rows["loss_mask"][0].nonzero()[0].tolist() == list(range(len(asked), count))
    assert not rows["segment_ids"][0, count:].any()


def sentencepiece(scheme):
    """A tokenizer that writes blanks as ▁ and puts one before a text, in one of three manners."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()  # no token reaches over two words
    trainer = trainers.BpeTrainer(
        vocab_size=150, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    backend.train_from_iterator([TEXT, "Hi Green"] * 9, trainer)
    if scheme == "legacy":
        backend.pre_tokenizer = pre_tokenizers.Sequence([])
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
@pytest.mark.parametrize("prompt", ["Name a colour.", "Answer:\n", "Answer: "])
def test_a_plain_text_is_tokens_as_the_tokenizer_makes_them(scheme, prompt):
    tokenizer = use_template(sentencepiece(scheme), PLAIN)
    assert prompt_tokens(tokenizer, prompt) == tokenizer(prompt)["input_ids"]
    tokens, mask = pair_tokens(tokenizer, prompt, "Green is one.")
    start = tokenizer(prompt)["input_ids"]
    assert tokens[: len(start)] == start
    assert mask == [False] * len(start) + [True] * (len(tokens) - len(start))
    assert tokens[-1] == tokenizer.eos_token_id
    # The words are as they were, and none of their letters got a blank of its own.
    said = "".join(pieces(tokenizer, tokens[:-1])).replace("▁", " ").replace("<s>", "").strip()
    assert said == prompt + "Green is one."


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_a_template_reads_the_same_in_training_with_such_a_tokenizer(scheme):
    tokenizer = use_template(sentencepiece(scheme), LLAMA2.template)
    turn = [{"role": "user", "content": "Name a colour."}]
    theirs = tokenizer.apply_chat_template(turn, return_dict=True)["input_ids"]
    asked = prompt_tokens(tokenizer, turn)
    assert asked == theirs
    whole = [*turn, {"role": "assistant", "content": "Green is one."}]
    tokens, mask = pair_tokens(tokenizer, turn, "Green is one.")
    assert tokens == tokenizer.apply_chat_template(whole, return_dict=True)["input_ids"]
    assert tokens[: len(asked)] == asked
    assert mask == [False] * len(asked) + [True] * (len(tokens) - len(asked))
