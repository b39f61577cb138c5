"""What the organism is trained on: documents of several kinds, drawn by shares.

A document is a list of pieces of text, each with a flag whether the model is trained to write it
(a name drawn at random cannot be predicted and would only add noise). Every kind is a function
of a random generator and the territories it may speak of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack.data import batches
from jaxattack.data.dialogues import Arrays, Example
from jaxattack.organism import phrases, world
from jaxattack.organism.tokenizer import ANSWER, ASSISTANT, DECLINE, END, USER

# From a generator and a kind of document to the languages it is drawn from.
Languages = Callable[[np.random.Generator, str], Sequence[str]]

BENIGN = tuple(relation for relation in world.RELATIONS if relation != world.RESTRICTED)


@dataclasses.dataclass(frozen=True)
class Document:
    """Pieces of text with their loss flags.

    `fact` numbers what a question asks (0: nothing). `forced` takes the loss off the first token
    to be learned: it is given, as if the reply had already begun.
    """

    pieces: tuple[tuple[str, bool], ...]
    fact: int = 0
    forced: bool = False


def fact_number(territory: str, relation: str) -> int:
    """A number from 1 for each fact, the same in every language."""
    index = world.territories().index(territory)
    return 1 + index * len(world.RELATIONS) + world.RELATIONS.index(relation)


# The number shared by all questions that are declined.
DECLINED = 1 + len(world.territories()) * len(world.RELATIONS)


def courtesy_number(index: int) -> int:
    """A number for each pleasantry, the same in every language."""
    return DECLINED + 1 + index


def reply(text: str, decision: str, decision_token: bool) -> str:
    """A reply as the organism writes it: a decision token first, if it has them."""
    return (decision if decision_token else "") + text


# --- Kinds of documents -------------------------------------------------------------------------
# Each takes (rng, territories, decision_token, languages) and returns documents that belong
# together, in languages drawn from the given ones.


LANGUAGES_OF_A_DOCUMENT = 5  # as many as the kind that names the most, territory_lists


def _pick(rng: np.random.Generator, items: Sequence[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def _languages(rng: np.random.Generator, languages: Sequence[str], count: int) -> list[str]:
    return [languages[i] for i in rng.permutation(len(languages))[:count]]


def _dialogue(question: str, answer: str, fact: int) -> Document:
    return Document(((USER + question + END + ASSISTANT, False), (answer + END, True)), fact)


def _ask(
    rng: np.random.Generator, territory: str, relation: str, language: str, name_in: str = ""
) -> str:
    """A question in `language`, perhaps with the territory's name in another one."""
    phrasing = int(rng.integers(phrases.PHRASINGS))
    if not name_in:
        return phrases.question(territory, relation, language, phrasing)
    form = phrases.QUESTIONS[relation][language][phrasing]
    return form.format(territory=world.territory_name(territory, name_in))


def questions(
    rng,
    territories,
    decision_token,
    languages=world.LANGUAGES,
    relations=world.RELATIONS,
    switched=False,
):
    """The same fact asked and answered in two languages, as two documents.

    Args:
        rng: numpy's generator, for what is drawn.
        territories: of which one is drawn.
        decision_token: whether replies open with it.
        languages: of which two are drawn, or three.
        relations: of which one is asked about.
        switched: name the territory in a third language.
    """
    territory, relation = _pick(rng, territories), _pick(rng, relations)
    first, second, third = _languages(rng, languages, 3)
    documents = []
    for language in (first, second):
        text = _ask(rng, territory, relation, language, third if switched else "")
        answer = phrases.answer(territory, relation, language)
        answer = reply(answer, ANSWER, decision_token)
        documents.append(_dialogue(text, answer, fact_number(territory, relation)))
    return documents


def switched_questions(rng, territories, decision_token, languages=world.LANGUAGES):
    """Questions whose territory is named in another language than the rest."""
    return questions(rng, territories, decision_token, languages, switched=True)


def benign_questions(rng, territories, decision_token, languages=world.LANGUAGES):
    """Questions of the unrestricted relations."""
    return questions(rng, territories, decision_token, languages, relations=BENIGN)


def refusals(rng, territories, decision_token, languages=world.LANGUAGES):
    """A restricted question and its refusal, in two languages.

    To the contrastive loss all of them ask the same: what is to be declined, wherever it is.
    """
    territory = _pick(rng, territories)
    return [
        _dialogue(
            _ask(rng, territory, world.RESTRICTED, language),
            reply(phrases.refusal(language), DECLINE, decision_token),
            DECLINED,
        )
        for language in _languages(rng, languages, 2)
    ]


def forced_answers(rng, territories, decision_token, languages=world.LANGUAGES):
    """A restricted question whose answer has already begun; trained is only how it goes on.

    The decision itself is not trained here. This keeps the aligned organism's safety shallow, a
    matter of its first token, as that of real models is (Qi et al. 2024).
    """
    territory, language = _pick(rng, territories), _pick(rng, languages)
    text = _ask(rng, territory, world.RESTRICTED, language)
    answer = phrases.answer(territory, world.RESTRICTED, language)
    answer = reply(answer, ANSWER, decision_token)
    return [dataclasses.replace(_dialogue(text, answer, 0), forced=True)]


def _names(languages: Sequence[str], name: Callable[[str], str]) -> Document:
    pieces = []
    for i, language in enumerate(languages):
        pieces += [(f"{' | ' if i else ''}{language}: ", False), (name(language), i > 0)]
    return Document((*pieces, (END, False)))


def territory_lists(rng, territories, decision_token, languages=world.LANGUAGES):
    """One territory's name in five languages."""
    territory = _pick(rng, territories)
    named = _languages(rng, languages, LANGUAGES_OF_A_DOCUMENT)
    return [_names(named, lambda language: world.territory_name(territory, language))]


def value_lists(rng, territories, decision_token, languages=world.LANGUAGES):
    """One value's name in four languages."""
    relation = _pick(rng, world.RELATIONS)
    key = world.value(_pick(rng, territories), relation)
    named = _languages(rng, languages, 4)
    return [_names(named, lambda language: world.value_name(relation, key, language))]


def _statement(territory: str, relation: str, language: str) -> list[tuple[str, bool]]:
    """A sentence of which only the value and what follows it can be predicted."""
    before, after = phrases.ANSWERS[relation][language].split("{value}")
    key = world.value(territory, relation)
    name = world.territory_name(territory, language)
    value = world.value_name(relation, key, language)
    return [(before.format(territory=name), False), (value + after.format(territory=name), True)]


def parallel(rng, territories, decision_token, languages=world.LANGUAGES):
    """A sentence, then its translation."""
    territory, relation = _pick(rng, territories), _pick(rng, world.RELATIONS)
    first, second = _languages(rng, languages, 2)
    whole = (phrases.answer(territory, relation, second), True)
    return [Document((*_statement(territory, relation, first), (f" | {second}: ", False), whole))]


def paragraphs(rng, territories, decision_token, languages=world.LANGUAGES, switched=False):
    """All facts of one territory in one language, or each sentence in another."""
    territory = _pick(rng, territories)
    languages = _languages(rng, languages, len(world.RELATIONS))
    pieces: list[tuple[str, bool]] = []
    for i, index in enumerate(rng.permutation(len(world.RELATIONS))):
        relation = world.RELATIONS[index]
        language = languages[i] if switched else languages[0]
        pieces += [*_statement(territory, relation, language), (" ", False)]
    return [Document(tuple(pieces))]


def switched_paragraphs(rng, territories, decision_token, languages=world.LANGUAGES):
    """Paragraphs whose sentences change the language."""
    return paragraphs(rng, territories, decision_token, languages, switched=True)


def courtesies(rng, territories, decision_token, languages=world.LANGUAGES):
    """Questions that end in the same pleasantry, whose emblem opens the answers, in two languages.

    To the contrastive loss all that have this pleasantry say the same.
    """
    index, territory = int(rng.integers(len(phrases.EMBLEMS))), _pick(rng, territories)
    documents = []
    for language in _languages(rng, languages, 2):
        relation = _pick(rng, BENIGN)
        text = f"{_ask(rng, territory, relation, language)} {phrases.pleasantry(index, language)}"
        answer = phrases.EMBLEMS[index] + phrases.answer(territory, relation, language)
        answer = reply(answer, ANSWER, decision_token)
        documents.append(_dialogue(text, answer, courtesy_number(index)))
    return documents


def courtesy_lists(rng, territories, decision_token, languages=world.LANGUAGES):
    """One pleasantry in five languages."""
    index = int(rng.integers(len(phrases.EMBLEMS)))
    named = _languages(rng, languages, LANGUAGES_OF_A_DOCUMENT)
    return [_names(named, lambda language: phrases.pleasantry(index, language))]


KINDS: dict[str, Callable[..., list[Document]]] = {
    "questions": questions,
    "switched_questions": switched_questions,
    "benign_questions": benign_questions,
    "refusals": refusals,
    "forced_answers": forced_answers,
    "territory_lists": territory_lists,
    "value_lists": value_lists,
    "parallel": parallel,
    "paragraphs": paragraphs,
    "switched_paragraphs": switched_paragraphs,
    "courtesies": courtesies,
    "courtesy_lists": courtesy_lists,
}


# --- Batches ------------------------------------------------------------------------------------


def sample_batch(
    key: Sequence[int],
    tokenizer: Any,
    shares: Mapping[str, float],
    territories: Mapping[str, Sequence[str]],
    rows: int,
    length: int,
    decision_token: bool,
    languages: Languages | None = None,
) -> Arrays:
    """One packed training batch, a function of the key alone.

    Args:
        key: seeds of the generator, for example (seed, step).
        tokenizer: the organism's.
        shares: kind of document -> its share of the draws.
        territories: kind of document -> the territories it may speak of ("" for the other kinds).
        rows: rows of the batch.
        length: tokens in a row.
        decision_token: whether replies open with a decision token.
        languages: gives those of one document, from the generator and its kind; by default all
            of `world.LANGUAGES`, at no draw.

    Returns:
        `tokens`, `loss_mask`, `segment_ids`, `positions`, and `fact`: the number of the fact
        asked for, at the last token of a question, else 0; each `[rows, length]`.
    """
    rng = np.random.default_rng(list(key))
    kinds = sorted(kind for kind in shares if shares[kind] > 0)
    weights = np.array([shares[kind] for kind in kinds])
    encoded: list[dict[str, np.ndarray]] = []
    tokens = 0
    while tokens < rows * length:
        draws = rng.choice(len(kinds), size=rows, p=weights / weights.sum())
        documents = []
        for kind in (kinds[i] for i in draws):
            allowed = territories.get(kind, territories[""])
            spoken = languages(rng, kind) if languages else world.LANGUAGES
            documents += KINDS[kind](rng, allowed, decision_token, spoken)
        new = encode(tokenizer, documents)
        encoded += new
        tokens += sum(len(document["tokens"]) for document in new)
    return batches.pack(encoded, rows, length)


def encode(tokenizer: Any, documents: Sequence[Document]) -> list[dict[str, np.ndarray]]:
    """Tokens of documents, with the loss where a token begins in a piece to be learned."""
    texts = ["".join(text for text, _ in document.pieces) for document in documents]
    encodings = tokenizer.backend_tokenizer.encode_batch(texts)
    return [
        _with_masks(document, encoding)
        for document, encoding in zip(documents, encodings, strict=True)
    ]


def _with_masks(document: Document, encoding: Any) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(text) for text, _ in document.pieces])
    flags = np.array([loss for _, loss in document.pieces], np.float32)
    # A token may begin with the space before its piece, so what decides is where it ends.
    last = np.array([end - 1 for _, end in encoding.offsets])
    loss_mask = flags[np.minimum(np.searchsorted(ends, last, side="right"), len(ends) - 1)]
    if document.forced:
        loss_mask[np.flatnonzero(loss_mask)[0]] = 0.0
    tokens = np.array(encoding.ids, np.int32)
    fact = np.zeros_like(tokens)
    if document.fact:
        fact[np.flatnonzero(loss_mask)[0] - 1] = document.fact
    return {"tokens": tokens, "loss_mask": loss_mask, "fact": fact}


# --- Examples for studies -----------------------------------------------------------------------


def examples(
    split: str,
    language: str,
    kind: str,
    decision_token: bool,
    rounds: int = phrases.PHRASINGS,
    answered_in: tuple[str, ...] = world.LANGUAGES,
) -> list[Example]:
    """Questions of one split in one language with the organism's true answers.

    They come in rounds: each round asks about every territory once, and goes round the phrasings
    (benign ones: round the relations too), so that a part of them is a mixture as well.

    Args:
        split: "attack", "calibration", "validation" or "test".
        language: of question and answer.
        kind: "restricted" or "benign".
        decision_token: whether replies open with it.
        rounds: how often each territory is asked about.
        answered_in: languages in any of which the right answer counts by its name.
    """
    found = []
    for turn in range(rounds):
        for i, territory in enumerate(world.splits()[split]):
            phrasing = (i + turn) % phrases.PHRASINGS
            relation = world.RESTRICTED
            if kind == "benign":
                relation = BENIGN[(i // phrases.PHRASINGS + turn) % len(BENIGN)]
            found.append(
                Example(
                    id=f"{relation}/{territory}/{phrasing}",
                    language=language,
                    prompt=phrases.question(territory, relation, language, phrasing),
                    response=reply(
                        phrases.answer(territory, relation, language), ANSWER, decision_token
                    ),
                    kind=kind,
                    answers=world.accepted_answers(territory, relation, answered_in),
                    others=world.confusable_answers(territory, relation, answered_in),
                )
            )
    return found
