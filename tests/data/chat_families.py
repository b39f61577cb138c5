"""Chat templates of model families, written from how the families describe their formats.

Beside each a tokenizer of words: one that cuts a text into words and signs, takes up the blank
before a word, and knows the family's special tokens. So what a dialogue should be can be written
down by hand.
"""

from __future__ import annotations

import dataclasses
import functools

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = r"\n| ?[^\s\p{P}\p{S}]+| ?[\p{P}\p{S}]|\s"
TEXT = (
    "Name a colour. a Name Green is one is. Green, user assistant system model the [INST] [/INST] "
    "<<SYS>> <</SYS>> You are Qwen, created by Alibaba Cloud. You are a helpful assistant. "
    "Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024 03 05 Mar 2025 think /think "
    "Task: Answer: Well Be brief. so\n Hi"
)


@dataclasses.dataclass(frozen=True)
class Family:
    """What a family's tokenizer_config says."""

    template: str | None
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    adds_bos: bool = False  # before every text


LLAMA2 = Family(
    # The system text goes into the first user turn; replies are trimmed and stand between blanks.
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}"
    "{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}"
    "{% for m in rest %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns of user and assistant take turns') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{{ (system if loop.first else '') + m['content'] | trim }}{{ ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
    ("<s>", "</s>"),
    "</s>",
    "<s>",
    True,
)

_LLAMA3_HEAD = "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}"
_LLAMA3 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{% set said = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set said = '' %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' }}"
    "{{ 'Cutting Knowledge Date: December 2023\\n' }}"
    "{{ 'Today Date: ' + date_string + '\\n\\n' }}{{ said }}{{ '<|eot_id|>' }}"
    "{% for m in messages %}" + _LLAMA3_HEAD + "{{ m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
_LLAMA3_SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
LLAMA31 = Family(  # a day of its own
    "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}" + _LLAMA3,
    _LLAMA3_SPECIAL,
    "<|eot_id|>",
    "<|begin_of_text|>",
    True,
)
LLAMA32 = dataclasses.replace(  # the clock's
    LLAMA31,
    template="{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}" + _LLAMA3,
    eos="<|end_of_text|>",
)

MISTRAL = Family(
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns of user and assistant take turns') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}",
    ("<s>", "</s>", "[INST]", "[/INST]"),
    "</s>",
    "<s>",
    True,
)

_CHATML_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN25 = Family(
    "{% if messages[0]['role'] == 'system' %}"
    "{{ '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{% else %}"
    "{{ '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. '"
    " + 'You are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{% if m['role'] != 'system' or not loop.first %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    _CHATML_SPECIAL,
    "<|im_end|>",
)

QWEN3 = Family(
    # Thoughts are kept in the last turn alone, an empty one stands where there is none.
    "{% for m in messages %}{% set content = m['content'] %}"
    "{% if m['role'] == 'assistant' %}{% set thought = '' %}"
    "{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
    "{% if loop.last %}"
    "{{ '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}"
    "{{ content.lstrip('\\n') }}{% else %}{{ '<|im_start|>assistant\\n' + content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\\n' + content + '<|im_end|>' + '\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}",
    _CHATML_SPECIAL,
    "<|im_end|>",
)

_GEMMA_TURNS = (
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns of user and assistant take turns') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
)
_GEMMA_END = "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
_GEMMA_SPECIAL = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
GEMMA2 = Family(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('no system turn here') }}{% endif %}"
    + _GEMMA_TURNS
    + "{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}"
    + _GEMMA_END,
    _GEMMA_SPECIAL,
    "<eos>",
    "<bos>",
    True,
)
GEMMA3 = Family(
    # The system text goes before the first user turn; content may come in parts.
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = (messages[0]['content'] if messages[0]['content'] is string "
    "else messages[0]['content'][0]['text']) + '\\n\\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set first = '' %}{% endif %}"
    + _GEMMA_TURNS
    + "{{ '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    "{% for part in m['content'] %}{{ part['text'] | trim }}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\\n' }}" + _GEMMA_END,
    _GEMMA_SPECIAL,
    "<eos>",
    "<bos>",
    True,
)

BLOOM = Family(None, ("<unk>", "<s>", "</s>", "<pad>"), "</s>", "<s>")  # adds no <s> itself
LLAMA_BASE = dataclasses.replace(LLAMA2, template=None)


@functools.cache
def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """The family's tokenizer of words."""
    cut = pre_tokenizers.Split(Regex(WORDS), "isolated")
    words = [word.strip(" ") for word, _ in cut.pre_tokenize_str(TEXT)]
    both = [blank + word for word in words for blank in ("", " ")]
    vocabulary = dict.fromkeys([*family.special, "<word>", "\n", " ", *both])
    model = models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<word>")
    backend = Tokenizer(model)
    backend.pre_tokenizer = cut
    backend.decoder = decoders.Fuse()
    if family.adds_bos:
        bos = (family.bos, list(vocabulary).index(family.bos))
        backend.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", pair=f"{family.bos} $A $B", special_tokens=[bos]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=family.eos,
        bos_token=family.bos,
        unk_token="<word>",
        additional_special_tokens=list(family.special),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = family.template
    return tokenizer
