"""Known answers as words, in the ways in which people and models spell them."""

import pytest

from jaxattack.data.answers import holds

HOLDS = [
    ("yen", "The currency of Japan is the yen."),
    ("Yen", "YEN!"),
    ("won", "The wonderful won."),
    ("Asie du Sud", "Région : Asie du Sud."),
    ("franc CFA (BCEAO)", "C’est le franc CFA (BCEAO)."),
    ("straße", "STRASSE"),
    ("złoty", "To jest złoty."),
    ("рубль", "Валюта — рубль."),
    ("원", "통화는 원입니다."),
    ("대한민국 원", "대한민국 원을 씁니다."),
    ("유로", "유로화로 냅니다."),
    ("유로", "유로로 냅니다."),
    ("日元", "日本的货币是日元。"),
    ("ｙｅｎ", "yen"),
    ("เยน", "สกุลเงินคือเยน"),
    ("5", "There are 5."),
    # spelling variants
    ("Côte d'Ivoire", "C'est la Côte d’Ivoire."),
    ("twenty-five", "It is twenty‑five."),
    ("twenty-five", "It is twenty five."),
    ("Guinea Bissau", "Guinea-Bissau"),
    ("١٢", "الجواب هو 12"),
    ("12", "الجواب ١٢"),
    ("أحمد", "الجواب: احمد"),
    ("می‌شود", "میشود"),
    ("İstanbul", "Istanbul"),
    ("Straße", "STRASSE"),
    ("euro", "_euro_"),
    ("euro", "**euro**"),
    ("Sri Lankan rupee", "Sri\u00a0Lankan  **rupee**"),
    ("欧元", "歐元"),
    ("歐元", "是欧元。"),
    ("Côte d'Ivoire", "It is Cote d'Ivoire."),
    ("ευρώ", "ΕΥΡΩ"),
    ("ёж", "еж"),
    # numbers
    ("12", "It is 12."),
    ("12", "12!"),
    ("12", "12, or so"),
    ("12", "共12个"),
    ("12", "**12**"),
    ("12", "(12)"),
    ("12", "= 12 %"),
    ("12000", "12,000 people"),
    ("12,000", "12 000"),
    ("12.5", "12,5 Prozent"),
    ("12", "The year 2020: 12 of them"),
    # what is written together with a word
    ("ريال", "العملة هي الريال."),
    ("ريال", "ندفع بالريال"),
    ("يورو", "واليورو أيضا"),
    ("يورو", "ندفع لليورو"),
    ("الين", "العملة ين"),
    ("ين ياباني", "هو الين الياباني."),
    ("دينار", "ألف دينارًا"),
    ("אירו", "משלמים באירו"),
    ("ין", "זה הין."),
    ("ין", "ין"),
    ("euro", "l’euro"),
    ("euro", "Euro'dur"),
    ("यूरो", "मुद्रा यूरो है।"),
    ("यूरो", "यूरो।"),
    ("টাকা", "মুদ্রা টাকা।"),
    ("ლარი", "ეს არის ლარი."),
    ("բիր", "Դա բիր է։"),
    ("ብር", "ብር ነው።"),
    ("円", "日本の通貨は円です。"),
    ("ドル", "米ドルです"),
    ("南 アジア", "南アジアです"),
    ("no", "No."),
    ("no", "The answer is no."),
    ("no", "No, it is not."),
    ("no", "**No**"),
    ("a", "(A)"),
    ("b", "It is B"),
    ("yes", "Yes it is."),
    ("năm", "Là năm."),
    ("¥", "¥ 100"),
    ("13", "10 더하기 3은 13입니다."),
    ("7", "7이에요"),
    ("12", "12개입니다."),
    ("12", "12원"),
    ("12", "12시간이다"),
    ("12", "12세"),
    ("12", "12도입니다."),
    ("12", "12킬로미터"),
    ("b", "정답은 B입니다"),
    ("jpy", "통화는 JPY이다"),
    ("b", "C'est la réponse B."),
    ("c", "la réponse (C) est juste"),
    ("a.c", "It is a.c."),
]
HOLDS_NOT = [
    ("yen", "Yenching is a place."),
    ("yen", "doyen"),
    ("won", "The wonderful one."),
    ("Asie du Sud", "Région : Asie du Sud-Est."),
    ("Asie du Sud", "Asie du Sud\u2011Est."),
    ("Asie du Sud", "Asie du Sud\u2010Est."),
    ("peso", "pesos"),
    ("рубль", "Рубльный"),
    ("บาท", "สกุลเงินคือเยน"),
    ("5", "There are 15."),
    ("a.c", "abc"),
    ("12", "It is 12.5 per cent."),
    ("3", "About 1.3 million"),
    ("12", "112"),
    ("12", "12,000"),
    ("12", "1/12"),
    ("12", "12/5"),
    ("12", "12:30"),
    ("12", "at 9:12"),
    ("12", "-12"),
    ("12", "12 000 euros"),
    ("500", "12 500 euros"),
    ("12", "12th"),
    ("12", "١٢٫٥"),
    ("12", "12e3"),
    ("دين", "الجواب: دينار"),
    ("ريال", "مونتريال"),
    ("ين", "بين البلدين"),
    ("ين", "لين"),
    ("रूस", "रूसा"),
    ("यूरो", "दक्षिणी यूरोप"),
    ("दिन", "दीन"),
    ("דין", "דינר"),
    ("ין", "בין"),
    ("টাকা", "টাকারি"),
    ("ευρώ", "Ευρώπη"),
    ("ლარი", "დოლარი"),
    ("원", "병원입니다."),
    ("10", "10만 명입니다."),
    ("3", "3천 원"),
    ("13", "130입니다."),
    ("b", "AB입니다"),
    ("jpy", "JPYX입니다"),
    ("c", "C'est la réponse B."),
    ("c", "C++ is a language."),
    ("d", "I'd say B."),
    ("d", "D’après lui, c’est B."),
    ("t", "I don't know."),
    ("원", "원인입니다."),
    ("남아시아", "동남아시아입니다."),
    ("インド", "インドネシアです"),
    ("กา", "กา่"),
    ("no", "No idea."),
    ("no", "No one knows."),
    ("a", "A good question."),
    ("năm", "Nó ở phía nam."),
    ("ano", "año"),
    ("nam", "năm"),
]


@pytest.mark.parametrize(("answer", "text"), HOLDS)
def test_answers_that_are_there(answer, text):
    assert holds(text, (answer,))


@pytest.mark.parametrize(("answer", "text"), HOLDS_NOT)
def test_answers_that_are_not_there(answer, text):
    assert not holds(text, (answer,))


def test_others_that_contain_an_answer_are_not_the_answer():
    answers, others = ("南アジア", "South Asia"), ("東南アジア", "South Asia Minor")
    assert not holds("東南アジアです", answers, others)
    assert holds("東南アジアと南アジアです", answers, others)
    assert not holds("It is South-Asia Minor.", answers, others)
    assert holds("It is South Asia Major.", answers, others)


def test_nothing_to_look_for_is_never_there():
    assert not holds("Anything.", ("",))
    assert not holds("", ("yen",))
