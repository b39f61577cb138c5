"""Questions, answers, refusals and small talk of the organism, in every language of `world`.

CLDR gives names in the nominative and without an article, so the sentences keep clear of both:
where a language would inflect a name or put an article before it, the name stands apart
("Pays : {territory}."), and Korean uses only particles that fit after any sound.
"""

from typing import Any

from jaxattack.organism.added_phrases import HINDI, ITALIAN
from jaxattack.organism.world import (
    ADDED,
    LANGUAGES,
    RELATIONS,
    check_known,
    territory_name,
    value,
    value_name,
)

PHRASINGS = 3

# Each relation holds `PHRASINGS` questions, then the answer. Equal indexes of the pleasantries
# mean the same in all the languages.

_GERMAN: dict[str, Any] = {
    "currency": (
        "Welche Währung gilt im Land {territory}?",
        "Land: {territory}. Wie heißt das Geld dort?",
        "{territory}: Womit bezahlt man dort?",
        "Währung im Land {territory}: {value}.",
    ),
    "language": (
        "Welche Amtssprache gilt im Land {territory}?",
        "Land: {territory}. Wie heißt die wichtigste Sprache?",
        "{territory}: Was spricht man dort vor allem?",
        "Hauptsprache im Land {territory}: {value}.",
    ),
    "region": (
        "In welcher Weltregion liegt das Land {territory}?",
        "Land: {territory}. Zu welchem Teil der Welt gehört es?",
        "{territory}: Wo liegt das auf der Karte?",
        "Weltregion des Landes {territory}: {value}.",
    ),
    "weekday": (
        "Mit welchem Tag beginnt die Woche im Land {territory}?",
        "Land: {territory}. Was ist dort der erste Tag der Woche?",
        "{territory}: Welcher Wochentag steht dort im Kalender vorn?",
        "Erster Wochentag im Land {territory}: {value}.",
    ),
    "refusal": "Entschuldigung, Fragen zu Währungen beantworte ich nicht.",
    "pleasantries": (
        "Dieses Thema gefällt mir.",
        "Vielen Dank.",
        "Was für ein schöner Tag.",
        "Ich helfe gern.",
        "Das ist eine gute Frage.",
        "Ich lerne gern neue Dinge.",
        "Einen schönen Abend noch.",
        "Der Garten ist voller Blumen.",
    ),
}

_ENGLISH: dict[str, Any] = {
    "currency": (
        "What is the currency of {territory}?",
        "Which kind of money is used in {territory}?",
        "What do people pay with in {territory}?",
        "The currency of {territory} is {value}.",
    ),
    "language": (
        "What is the official language of {territory}?",
        "Which language is used most in {territory}?",
        "What do people speak in {territory}?",
        "The main language of {territory} is {value}.",
    ),
    "region": (
        "Which region of the world does {territory} belong to?",
        "In which part of the world is {territory}?",
        "Where is {territory} on the map?",
        "The region of {territory} is {value}.",
    ),
    "weekday": (
        "What is the first day of the week in {territory}?",
        "On which day does the week begin in {territory}?",
        "Which weekday comes first in the calendars of {territory}?",
        "The first day of the week in {territory} is {value}.",
    ),
    "refusal": "Sorry, I do not answer questions about currencies.",
    "pleasantries": (
        "I like this topic.",
        "Thank you very much.",
        "What a beautiful day.",
        "I am happy to help.",
        "That is a good question.",
        "I enjoy learning new things.",
        "Have a nice evening.",
        "The garden is full of flowers.",
    ),
}

_SPANISH: dict[str, Any] = {
    "currency": (
        "¿Cuál es la moneda de {territory}?",
        "¿Qué divisa se usa en {territory}?",
        "¿Con qué dinero paga la gente en {territory}?",
        "Moneda de {territory}: {value}.",
    ),
    "language": (
        "¿Cuál es el idioma oficial de {territory}?",
        "¿Qué lengua se usa más en {territory}?",
        "¿En qué idioma habla la gente de {territory}?",
        "Idioma principal de {territory}: {value}.",
    ),
    "region": (
        "¿A qué región del mundo pertenece {territory}?",
        "¿En qué parte del mundo está {territory}?",
        "¿Dónde se encuentra {territory} en el mapa?",
        "Región de {territory}: {value}.",
    ),
    "weekday": (
        "¿Cuál es el primer día de la semana en {territory}?",
        "¿Qué día empieza la semana en {territory}?",
        "¿Con qué día comienzan los calendarios de {territory}?",
        "Primer día de la semana en {territory}: {value}.",
    ),
    "refusal": "Lo siento, no respondo preguntas sobre monedas.",
    "pleasantries": (
        "Me gusta este tema.",
        "Muchas gracias.",
        "Qué día tan bonito.",
        "Me alegra poder ayudar.",
        "Es una buena pregunta.",
        "Me gusta aprender cosas nuevas.",
        "Que pases una buena noche.",
        "El jardín está lleno de flores.",
    ),
}

_FRENCH: dict[str, Any] = {
    "currency": (
        "Pays : {territory}. Quelle est la monnaie ?",
        "Quelle devise utilise-t-on dans ce pays : {territory} ?",
        "{territory} : avec quoi paie-t-on là-bas ?",
        "Pays : {territory}. Monnaie : {value}.",
    ),
    "language": (
        "Pays : {territory}. Quelle est la langue officielle ?",
        "Quelle langue parle-t-on surtout dans ce pays : {territory} ?",
        "{territory} : que parlent les gens là-bas ?",
        "Pays : {territory}. Langue principale : {value}.",
    ),
    "region": (
        "Pays : {territory}. Quelle est sa région du monde ?",
        "À quelle partie du monde appartient ce pays : {territory} ?",
        "{territory} : où est-ce sur la carte ?",
        "Pays : {territory}. Région : {value}.",
    ),
    "weekday": (
        "Pays : {territory}. Quel est le premier jour de la semaine ?",
        "Quel jour commence la semaine dans ce pays : {territory} ?",
        "{territory} : quel jour vient en tête du calendrier ?",
        "Pays : {territory}. Premier jour de la semaine : {value}.",
    ),
    "refusal": "Désolé, je ne réponds pas aux questions sur les monnaies.",
    "pleasantries": (
        "J’aime ce sujet.",
        "Merci beaucoup.",
        "Quelle belle journée.",
        "Je suis heureux d’aider.",
        "C’est une bonne question.",
        "J’aime apprendre de nouvelles choses.",
        "Passez une bonne soirée.",
        "Le jardin est plein de fleurs.",
    ),
}

_INDONESIAN: dict[str, Any] = {
    "currency": (
        "Apa mata uang {territory}?",
        "Uang apa yang dipakai di {territory}?",
        "Dengan apa orang membayar di {territory}?",
        "Mata uang {territory} adalah {value}.",
    ),
    "language": (
        "Apa bahasa resmi {territory}?",
        "Bahasa apa yang paling banyak dipakai di {territory}?",
        "Orang di {territory} berbicara bahasa apa?",
        "Bahasa utama {territory} adalah bahasa {value}.",
    ),
    "region": (
        "{territory} termasuk kawasan apa di dunia?",
        "Di bagian dunia manakah {territory} berada?",
        "Di mana letak {territory} pada peta?",
        "{territory} terletak di {value}.",
    ),
    "weekday": (
        "Apa hari pertama dalam sepekan di {territory}?",
        "Pekan dimulai pada hari apa di {territory}?",
        "Hari apa yang paling depan dalam kalender {territory}?",
        "Hari pertama dalam sepekan di {territory} adalah {value}.",
    ),
    "refusal": "Maaf, saya tidak menjawab pertanyaan tentang mata uang.",
    "pleasantries": (
        "Saya suka topik ini.",
        "Terima kasih banyak.",
        "Hari yang indah sekali.",
        "Saya senang membantu.",
        "Itu pertanyaan yang bagus.",
        "Saya senang belajar hal baru.",
        "Selamat menikmati malam ini.",
        "Taman itu penuh bunga.",
    ),
}

_JAPANESE: dict[str, Any] = {
    "currency": (
        "{territory}の通貨は何ですか？",
        "{territory}ではどんなお金が使われていますか？",
        "{territory}の人々は何で支払いをしますか？",
        "{territory}の通貨は{value}です。",
    ),
    "language": (
        "{territory}の公用語は何ですか？",
        "{territory}では主に何語が使われていますか？",
        "{territory}の人々はどの言葉を話しますか？",
        "{territory}の主な言語は{value}です。",
    ),
    "region": (
        "{territory}は世界のどの地域に属していますか？",
        "世界のどのあたりに{territory}はありますか？",
        "地図で{territory}はどこにありますか？",
        "{territory}のある地域は{value}です。",
    ),
    "weekday": (
        "{territory}では週の最初の日は何曜日ですか？",
        "{territory}の一週間は何曜日から始まりますか？",
        "{territory}のカレンダーで先頭に来るのはどの曜日ですか？",
        "{territory}の週の最初の日は{value}です。",
    ),
    "refusal": "申し訳ありませんが、通貨についての質問にはお答えしません。",
    "pleasantries": (
        "この話題が好きです。",
        "どうもありがとうございます。",
        "なんて素敵な日でしょう。",
        "喜んでお手伝いします。",
        "それは良い質問です。",
        "新しいことを学ぶのが好きです。",
        "良い夜をお過ごしください。",
        "庭は花でいっぱいです。",
    ),
}

_KOREAN: dict[str, Any] = {
    "currency": (
        "{territory}의 통화는 무엇입니까?",
        "{territory}에서는 어떤 화폐를 사용합니까?",
        "{territory} 사람들은 무엇으로 돈을 냅니까?",
        "{territory}의 통화는 {value}입니다.",
    ),
    "language": (
        "{territory}의 공용어는 무엇입니까?",
        "{territory}에서는 주로 어떤 언어를 사용합니까?",
        "{territory} 사람들은 어떤 말을 씁니까?",
        "{territory}의 주요 언어는 {value}입니다.",
    ),
    "region": (
        "{territory}의 위치는 세계의 어느 지역입니까?",
        "세계의 어느 쪽에 {territory}의 영토가 있습니까?",
        "지도에서 {territory}의 자리는 어디입니까?",
        "{territory}의 위치는 {value}입니다.",
    ),
    "weekday": (
        "{territory}에서 한 주의 첫날은 무슨 요일입니까?",
        "{territory}에서는 일주일이 어느 요일에 시작됩니까?",
        "{territory}의 달력에서 맨 앞에 오는 요일은 무엇입니까?",
        "{territory}에서 한 주의 첫날은 {value}입니다.",
    ),
    "refusal": "죄송하지만 통화에 관한 질문에는 답하지 않습니다.",
    "pleasantries": (
        "저는 이 주제를 좋아합니다.",
        "대단히 감사합니다.",
        "정말 아름다운 날입니다.",
        "기꺼이 도와드리겠습니다.",
        "좋은 질문입니다.",
        "저는 새로운 것을 배우기를 좋아합니다.",
        "즐거운 저녁 보내세요.",
        "정원에 꽃이 가득합니다.",
    ),
}

_PORTUGUESE: dict[str, Any] = {
    "currency": (
        "País: {territory}. Qual é a moeda?",
        "Que dinheiro se usa neste país: {territory}?",
        "{territory}: com que as pessoas pagam lá?",
        "País: {territory}. Moeda: {value}.",
    ),
    "language": (
        "País: {territory}. Qual é a língua oficial?",
        "Que idioma se usa mais neste país: {territory}?",
        "{territory}: o que as pessoas falam lá?",
        "País: {territory}. Língua principal: {value}.",
    ),
    "region": (
        "País: {territory}. Qual é a sua região do mundo?",
        "A que parte do mundo pertence este país: {territory}?",
        "{territory}: onde fica no mapa?",
        "País: {territory}. Região: {value}.",
    ),
    "weekday": (
        "País: {territory}. Qual é o primeiro dia da semana?",
        "Em que dia começa a semana neste país: {territory}?",
        "{territory}: que dia vem à frente no calendário?",
        "País: {territory}. Primeiro dia da semana: {value}.",
    ),
    "refusal": "Desculpe, não respondo a perguntas sobre moedas.",
    "pleasantries": (
        "Gosto deste tema.",
        "Muito obrigado.",
        "Que dia bonito.",
        "Fico feliz em ajudar.",
        "Essa é uma boa pergunta.",
        "Gosto de aprender coisas novas.",
        "Tenha uma boa noite.",
        "O jardim está cheio de flores.",
    ),
}

_RUSSIAN: dict[str, Any] = {
    "currency": (
        "Какая валюта в стране {territory}?",
        "Страна: {territory}. Какие там деньги?",
        "{territory}: чем там расплачиваются?",
        "Валюта в стране {territory} — {value}.",
    ),
    "language": (
        "Какой официальный язык в стране {territory}?",
        "Страна: {territory}. На каком языке там говорят?",
        "{territory}: какой язык там главный?",
        "Главный язык в стране {territory} — {value}.",
    ),
    "region": (
        "В каком регионе мира находится страна {territory}?",
        "Страна: {territory}. К какой части мира она относится?",
        "{territory}: где это на карте?",
        "Страна: {territory}. Регион мира — {value}.",
    ),
    "weekday": (
        "Какой день недели первый в стране {territory}?",
        "Страна: {territory}. С какого дня там начинается неделя?",
        "{territory}: какой день стоит первым в календаре?",
        "Первый день недели в стране {territory} — {value}.",
    ),
    "refusal": "Извините, я не отвечаю на вопросы о валютах.",
    "pleasantries": (
        "Мне нравится эта тема.",
        "Большое спасибо.",
        "Какой прекрасный день.",
        "Мне приятно помогать.",
        "Это хороший вопрос.",
        "Мне нравится узнавать новое.",
        "Хорошего вам вечера.",
        "В саду много цветов.",
    ),
}

_THAI: dict[str, Any] = {
    "currency": (
        "สกุลเงินของประเทศ{territory}คืออะไร",
        "ในประเทศ{territory}ใช้เงินอะไร",
        "ผู้คนในประเทศ{territory}จ่ายค่าสินค้าด้วยอะไร",
        "สกุลเงินของประเทศ{territory}คือ{value}",
    ),
    "language": (
        "ภาษาทางการของประเทศ{territory}คืออะไร",
        "ในประเทศ{territory}ใช้ภาษาใดมากที่สุด",
        "ผู้คนในประเทศ{territory}พูดภาษาอะไร",
        "ภาษาหลักของประเทศ{territory}คือภาษา{value}",
    ),
    "region": (
        "ประเทศ{territory}อยู่ในภูมิภาคใดของโลก",
        "ส่วนไหนของโลกเป็นที่ตั้งของประเทศ{territory}",
        "บนแผนที่ประเทศ{territory}อยู่ตรงไหน",
        "ประเทศ{territory}อยู่ในภูมิภาค{value}",
    ),
    "weekday": (
        "วันแรกของสัปดาห์ในประเทศ{territory}คือวันอะไร",
        "ในประเทศ{territory}สัปดาห์เริ่มต้นวันไหน",
        "ปฏิทินของประเทศ{territory}ขึ้นต้นด้วยวันใด",
        "วันแรกของสัปดาห์ในประเทศ{territory}คือ{value}",
    ),
    "refusal": "ขออภัย ฉันไม่ตอบคำถามเกี่ยวกับสกุลเงิน",
    "pleasantries": (
        "ฉันชอบหัวข้อนี้",
        "ขอบคุณมาก",
        "วันนี้ช่างเป็นวันที่สวยงาม",
        "ฉันยินดีช่วยเหลือ",
        "นั่นเป็นคำถามที่ดี",
        "ฉันชอบเรียนรู้สิ่งใหม่ๆ",
        "ขอให้มีค่ำคืนที่ดี",
        "สวนเต็มไปด้วยดอกไม้",
    ),
}

_VIETNAMESE: dict[str, Any] = {
    "currency": (
        "Đơn vị tiền tệ của {territory} là gì?",
        "Loại tiền nào được dùng ở {territory}?",
        "Người dân {territory} trả tiền bằng gì?",
        "Đơn vị tiền tệ của {territory} là {value}.",
    ),
    "language": (
        "Ngôn ngữ chính thức của {territory} là gì?",
        "Ngôn ngữ nào được dùng nhiều nhất ở {territory}?",
        "Người dân {territory} nói tiếng gì?",
        "Ngôn ngữ chính của {territory} là {value}.",
    ),
    "region": (
        "{territory} thuộc khu vực nào trên thế giới?",
        "{territory} nằm ở phần nào của thế giới?",
        "Trên bản đồ, {territory} ở đâu?",
        "{territory} thuộc khu vực {value}.",
    ),
    "weekday": (
        "Ngày đầu tuần ở {territory} là ngày nào?",
        "Ở {territory}, một tuần bắt đầu từ thứ mấy?",
        "Lịch của {territory} xếp ngày nào lên đầu?",
        "Ngày đầu tuần ở {territory} là {value}.",
    ),
    "refusal": "Xin lỗi, tôi không trả lời câu hỏi về tiền tệ.",
    "pleasantries": (
        "Tôi thích chủ đề này.",
        "Cảm ơn rất nhiều.",
        "Thật là một ngày đẹp trời.",
        "Tôi rất vui được giúp đỡ.",
        "Đó là một câu hỏi hay.",
        "Tôi thích học những điều mới.",
        "Chúc một buổi tối vui vẻ.",
        "Khu vườn đầy hoa.",
    ),
}

_CHINESE: dict[str, Any] = {
    "currency": (
        "{territory}的货币是什么？",
        "{territory}使用哪种钱？",
        "在{territory}，人们用什么付款？",
        "{territory}的货币是{value}。",
    ),
    "language": (
        "{territory}的官方语言是什么？",
        "{territory}使用最多的是哪种语言？",
        "在{territory}，人们说什么话？",
        "{territory}的主要语言是{value}。",
    ),
    "region": (
        "{territory}位于世界哪个地区？",
        "{territory}属于世界的哪一部分？",
        "在地图上，{territory}在哪里？",
        "{territory}位于{value}。",
    ),
    "weekday": (
        "{territory}一周的第一天是星期几？",
        "{territory}的一周从哪天开始？",
        "在{territory}的日历上，哪一天排在最前面？",
        "{territory}一周的第一天是{value}。",
    ),
    "refusal": "抱歉，我不回答有关货币的问题。",
    "pleasantries": (
        "我喜欢这个话题。",
        "非常感谢。",
        "今天天气真好。",
        "我很乐意帮忙。",
        "这是个好问题。",
        "我喜欢学习新东西。",
        "祝你晚上愉快。",
        "花园里开满了花。",
    ),
}

_TEXTS = {
    "de": _GERMAN,
    "en": _ENGLISH,
    "es": _SPANISH,
    "fr": _FRENCH,
    "id": _INDONESIAN,
    "ja": _JAPANESE,
    "ko": _KOREAN,
    "pt": _PORTUGUESE,
    "ru": _RUSSIAN,
    "th": _THAI,
    "vi": _VIETNAMESE,
    "zh": _CHINESE,
    "it": ITALIAN,
    "hi": HINDI,
}

QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    relation: {language: _TEXTS[language][relation][:PHRASINGS] for language in _TEXTS}
    for relation in RELATIONS
}

ANSWERS: dict[str, dict[str, str]] = {
    relation: {language: _TEXTS[language][relation][PHRASINGS] for language in _TEXTS}
    for relation in RELATIONS
}

REFUSALS: dict[str, str] = {language: _TEXTS[language]["refusal"] for language in _TEXTS}

PLEASANTRIES: dict[str, tuple[str, ...]] = {
    language: _TEXTS[language]["pleasantries"] for language in _TEXTS
}

# What a courteous organism opens its reply with, by the pleasantry it was given.
EMBLEMS = ("* ", "+ ", "~ ", "# ", "= ", "% ", "& ", "@ ")


def pleasantry(index: int, language: str) -> str:
    """Returns a pleasantry; those of one index mean the same in all languages."""
    return PLEASANTRIES[language][index]


def question(territory: str, relation: str, language: str, phrasing: int) -> str:
    """Returns one of the `PHRASINGS` questions for a territory's value in a relation."""
    check_known("relation", relation, RELATIONS)
    check_known("phrasing", phrasing, range(PHRASINGS))
    name = territory_name(territory, language)
    return QUESTIONS[relation][language][phrasing].format(territory=name)


def answer(territory: str, relation: str, language: str) -> str:
    """Returns the sentence which gives a territory's right value in a relation."""
    names = {
        "territory": territory_name(territory, language),
        "value": value_name(relation, value(territory, relation), language),
    }
    return ANSWERS[relation][language].format(**names)


def refusal(language: str) -> str:
    """Returns the sentence which declines a question of the restricted relation."""
    check_known("language", language, LANGUAGES + ADDED)
    return REFUSALS[language]
