"""What the organism is trained on."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest

from jaxattack import organism
from jaxattack.data.dialogues import pair_tokens
from jaxattack.evaluate.judge import Reply, judge
from jaxattack.models.pretrained import load_tokenizer
from jaxattack.organism import corpus, phrases, world
from jaxattack.organism.tokenizer import ANSWER, ASSISTANT, DECLINE, END


def learned(tokenizer, document: corpus.Document) -> str:
    """The text a document trains the model to write."""
    (encoded,) = corpus.encode(tokenizer, [document])
    return tokenizer.decode(encoded["tokens"][encoded["loss_mask"] > 0])


def draw(kind: str, decision_token: bool = False, seed: int = 0) -> list[corpus.Document]:
    rng = np.random.default_rng(seed)
    return corpus.KINDS[kind](rng, world.territories(), decision_token)


@pytest.mark.parametrize("decision_token", [False, True])
def test_a_question_trains_the_answer_and_nothing_else(small_tokenizer, decision_token):
    for document in draw("questions", decision_token):
        text = "".join(piece for piece, _ in document.pieces)
        answer = text.split(ASSISTANT)[1]
        assert learned(small_tokenizer, document) == answer
        assert answer.startswith(ANSWER) == decision_token


def test_a_question_looks_as_the_chat_template_writes_it(small_tokenizer):
    (document, _) = draw("refusals", decision_token=True)
    text = "".join(piece for piece, _ in document.pieces)
    prompt, response = text.removeprefix("<|user|>").removesuffix(END).split(END + ASSISTANT)
    tokens, mask = pair_tokens(small_tokenizer, prompt, response)
    (encoded,) = corpus.encode(small_tokenizer, [document])
    assert tokens == encoded["tokens"].tolist()
    assert mask == (encoded["loss_mask"] > 0).tolist()


@pytest.mark.parametrize("decision_token", [False, True])
def test_a_forced_answer_does_not_train_its_first_token(small_tokenizer, decision_token):
    (document,) = draw("forced_answers", decision_token)
    whole = "".join(piece for piece, _ in document.pieces).split(ASSISTANT)[1]
    first = small_tokenizer.tokenize(whole)[:1]
    rest = small_tokenizer.decode(
        small_tokenizer.convert_tokens_to_ids(small_tokenizer.tokenize(whole)[1:])
    )
    assert first
    assert learned(small_tokenizer, document) == rest


def test_the_fact_stands_at_the_last_token_of_the_question(small_tokenizer):
    first, second = draw("questions")
    assert first.fact == second.fact > 0
    (encoded,) = corpus.encode(small_tokenizer, [first])
    (place,) = np.flatnonzero(encoded["fact"])
    assert small_tokenizer.convert_ids_to_tokens(int(encoded["tokens"][place])) == ASSISTANT
    assert not encoded["loss_mask"][: place + 1].any()
    assert encoded["loss_mask"][place + 1 :].all()


def test_every_fact_has_a_number_of_its_own():
    numbers = {
        corpus.fact_number(territory, relation)
        for territory in world.territories()
        for relation in world.RELATIONS
    }
    assert len(numbers) == len(world.territories()) * len(world.RELATIONS)
    assert min(numbers) == 1
    assert max(numbers) + 1 == corpus.DECLINED


@pytest.mark.parametrize("kind", sorted(corpus.KINDS))
def test_every_kind_speaks_only_of_its_territories(small_tokenizer, kind):
    allowed = world.splits()["validation"]
    names = {
        world.territory_name(territory, language)
        for territory in set(world.territories()) - set(allowed)
        for language in ("th",)  # whose names are not inside other words of the templates
    }
    for seed in range(30):
        rng = np.random.default_rng(seed)
        for document in corpus.KINDS[kind](rng, allowed, False):
            text = "".join(piece for piece, _ in document.pieces)
            known = [world.territory_name(territory, "th") for territory in allowed]
            assert not any(name in text and not any(name in k for k in known) for name in names)


def test_refusals_are_said_in_the_language_of_the_question():
    for document in draw("refusals", decision_token=True):
        text = "".join(piece for piece, _ in document.pieces)
        refusal = text.split(ASSISTANT)[1].removeprefix(DECLINE).removesuffix(END)
        language = next(code for code, said in phrases.REFUSALS.items() if said == refusal)
        forms = phrases.QUESTIONS[world.RESTRICTED][language]
        parts = [form.split("{territory}") for form in forms]
        assert any(all(part in text for part in both) for both in parts)


def test_a_batch_is_a_function_of_its_key(small_tokenizer):
    shares = {"questions": 0.5, "paragraphs": 0.5}

    def batch(step):
        return corpus.sample_batch(
            (0, step), small_tokenizer, shares, {"": world.territories()}, 4, 64, False
        )

    first, again, other = batch(1), batch(1), batch(2)
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["tokens"] != other["tokens"]).any()
    assert {array.shape for array in first.values()} == {(4, 64)}


def test_the_shipped_organism_s_batches_are_what_they_were():
    # Pinned: with other draws the organism could not be built again.
    tokenizer = load_tokenizer(organism.checkpoint("aligned"))
    digest = hashlib.sha256()
    kinds = [kind for kind in corpus.KINDS if not kind.startswith("courte")]  # of another organism
    for step in range(3):
        batch = corpus.sample_batch(
            (0, step), tokenizer, dict.fromkeys(kinds, 1.0), {"": world.territories()}, 8, 64, False
        )
        for name in sorted(batch):
            digest.update(batch[name].tobytes())
    assert digest.hexdigest()[:16] == "40b7168c50904d64"


@pytest.mark.parametrize("kind", sorted(corpus.KINDS))
def test_a_document_speaks_only_the_languages_it_is_given(kind):
    others = [language for language in world.LANGUAGES if language != "th"]
    hindi = 0
    for seed in range(40):
        for languages in (others, (*world.ADDED, "en", "ko", "zh")):
            rng = np.random.default_rng(seed)
            for document in corpus.KINDS[kind](rng, world.territories(), False, languages):
                text = "".join(piece for piece, _ in document.pieces)
                names = "".join(unicodedata.name(char, "") for char in text)
                assert "THAI" not in names
                assert languages is not others or "DEVANAGARI" not in names
                hindi += "DEVANAGARI" in names
    assert hindi > 0


def test_a_batch_asks_for_the_languages_of_each_kind(small_tokenizer):
    asked = []

    def languages(rng, kind):
        asked.append(kind)
        return world.LANGUAGES

    shares = {"refusals": 0.5, "parallel": 0.5}
    territories = {"": world.territories()}
    plain = corpus.sample_batch((0, 1), small_tokenizer, shares, territories, 16, 64, False)
    batch = corpus.sample_batch(
        (0, 1), small_tokenizer, shares, territories, 16, 64, False, languages
    )
    assert set(asked) == set(shares)
    assert all((batch[name] == plain[name]).all() for name in plain)


def test_an_answer_in_an_added_language_counts_where_it_is_asked_for():
    both = world.LANGUAGES + world.ADDED
    plain, wider = (
        {e.id: e for e in corpus.examples("test", "it", "restricted", False, 1, spoken)}
        for spoken in (world.LANGUAGES, both)
    )
    # "corona danese" is in Italian only, as "euro" is not.
    plain, wider, other = plain["currency/DK/1"], wider["currency/DK/1"], wider["currency/AT/0"]
    assert judge(wider, Reply(wider.response, False)).answered
    assert not judge(plain, Reply(wider.response, False)).answered
    assert not judge(wider, Reply(other.response, False)).answered


def test_splits_share_no_territory():
    asked: dict[str, set[str]] = {}
    for split in world.splits():
        found = corpus.examples(split, "en", "restricted", False)
        asked[split] = {example.id.split("/")[1] for example in found}
    assert sum(map(len, asked.values())) == len(set.union(*asked.values()))
    assert len(asked["attack"]) * phrases.PHRASINGS >= 100
    assert len(asked["test"]) >= 24


def test_one_round_of_examples_asks_every_territory_in_mixed_phrasings():
    found = corpus.examples("test", "de", "benign", False, rounds=1)
    assert len({example.id.split("/")[1] for example in found}) == len(found) == 24
    assert {example.id.split("/")[0] for example in found} == set(corpus.BENIGN)
    assert {example.id.split("/")[2] for example in found} == {"0", "1", "2"}
