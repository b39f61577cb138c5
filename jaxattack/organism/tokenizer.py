"""The organism's tokenizer: byte-level BPE over the world's own sentences, with a chat template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from jaxattack.organism import phrases, world

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
# The decision tokens: language-neutral first tokens of a reply. Engineered, and said to be.
ANSWER, DECLINE = "<|answer|>", "<|decline|>"
SPECIAL = (PAD, USER, ASSISTANT, END, ANSWER, DECLINE)

# Words keep their combining marks, without which Thai falls into single characters.
WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}<|end|>"
    "{% elif message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}{{ raise_exception('the organism knows only user and assistant turns') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def sentences(languages: Sequence[str] = world.LANGUAGES) -> Iterator[str]:
    """Every sentence that may be read or written in them; rare ones that matter several times."""
    for language in languages:
        yield from [phrases.refusal(language)] * 20
        yield from phrases.PLEASANTRIES[language]
        for relation in world.RELATIONS:
            # A territory is in sixteen sentences, a currency often in one.
            for key in world.values(relation):
                yield from [" " + world.value_name(relation, key, language)] * 4
            for territory in world.territories():
                yield phrases.answer(territory, relation, language)
                for phrasing in range(phrases.PHRASINGS):
                    yield phrases.question(territory, relation, language, phrasing)


def train_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer; deterministic."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(sentences(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, ANSWER, DECLINE],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
