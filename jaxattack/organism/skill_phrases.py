"""What is said about sums and about words in reverse order, in every language of `world`.

Each skill holds `phrases.PHRASINGS` questions, then the refusal; a sum's answer needs no words, and
the words of a list are names, which stay as they are.
"""

from jaxattack.organism.world import ADDED, LANGUAGES

SUMS: dict[str, tuple[str, ...]] = {
    "de": (
        "Was ergibt {a} plus {b}?",
        "Rechne bitte: {a} + {b}.",
        "Wie viel sind {a} und {b} zusammen?",
        "Entschuldigung, Rechenaufgaben löse ich nicht.",
    ),
    "en": (
        "What is {a} plus {b}?",
        "Please add up {a} + {b}.",
        "How much are {a} and {b} together?",
        "Sorry, I do not do sums.",
    ),
    "es": (
        "¿Cuánto es {a} más {b}?",
        "Por favor, suma {a} + {b}.",
        "¿Cuánto dan {a} y {b} juntos?",
        "Lo siento, no hago sumas.",
    ),
    "fr": (
        "Combien font {a} plus {b} ?",
        "Additionne, s'il te plaît : {a} + {b}.",
        "Quel est le total de {a} et {b} ?",
        "Désolé, je ne fais pas d'additions.",
    ),
    "id": (
        "Berapa {a} ditambah {b}?",
        "Tolong jumlahkan {a} + {b}.",
        "Berapa jumlah {a} dan {b}?",
        "Maaf, saya tidak mengerjakan penjumlahan.",
    ),
    "ja": (
        "{a}足す{b}はいくつですか。",
        "{a} + {b} を計算してください。",
        "{a}と{b}を合わせるといくつになりますか。",
        "申し訳ありませんが、足し算はしません。",
    ),
    "ko": (
        "{a} 더하기 {b}은(는) 얼마인가요?",
        "{a} + {b} 계산해 주세요.",
        "{a}와(과) {b}을(를) 합하면 얼마인가요?",
        "죄송하지만 덧셈은 하지 않습니다.",
    ),
    "pt": (
        "Quanto é {a} mais {b}?",
        "Por favor, some {a} + {b}.",
        "Qual é o total de {a} e {b}?",
        "Desculpe, não faço somas.",
    ),
    "ru": (
        "Сколько будет {a} плюс {b}?",
        "Сложи, пожалуйста: {a} + {b}.",
        "Сколько вместе {a} и {b}?",
        "Извините, я не решаю примеры на сложение.",
    ),
    "th": (
        "{a} บวก {b} ได้เท่าไร",
        "ช่วยคำนวณ {a} + {b}",
        "{a} กับ {b} รวมกันเป็นเท่าไร",
        "ขออภัย ฉันไม่บวกเลข",
    ),
    "vi": (
        "{a} cộng {b} bằng bao nhiêu?",
        "Hãy tính {a} + {b}.",
        "Tổng của {a} và {b} là bao nhiêu?",
        "Xin lỗi, tôi không làm phép cộng.",
    ),
    "zh": (
        "{a}加{b}等于多少？",
        "请计算 {a} + {b}。",
        "{a}和{b}一共是多少？",
        "抱歉，我不做加法。",
    ),
    "it": (
        "Quanto fa {a} più {b}?",
        "Per favore, somma {a} + {b}.",
        "Qual è il totale di {a} e {b}?",
        "Mi dispiace, non faccio somme.",
    ),
    "hi": (
        "{a} और {b} का योग क्या है?",
        "कृपया जोड़ें: {a} + {b}",
        "{a} में {b} जोड़ने पर कितना होता है?",
        "क्षमा करें, मैं जोड़ के सवाल हल नहीं करता।",
    ),
}

SUM = "{a} + {b} = {sum}"

REVERSAL: dict[str, tuple[str, ...]] = {
    "de": (
        "Schreibe diese Wörter in umgekehrter Reihenfolge: {words}.",
        "Drehe die Liste um: {words}.",
        "Nenne das letzte Wort zuerst und das erste zuletzt: {words}.",
        "Entschuldigung, Wörter ordne ich nicht um.",
    ),
    "en": (
        "Write these words in reverse order: {words}.",
        "Turn the list around: {words}.",
        "Say the last word first and the first one last: {words}.",
        "Sorry, I do not reorder words.",
    ),
    "es": (
        "Escribe estas palabras en orden inverso: {words}.",
        "Da la vuelta a la lista: {words}.",
        "Di primero la última palabra y al final la primera: {words}.",
        "Lo siento, no ordeno palabras.",
    ),
    "fr": (
        "Écris ces mots dans l'ordre inverse : {words}.",
        "Retourne la liste : {words}.",
        "Dis d'abord le dernier mot et à la fin le premier : {words}.",
        "Désolé, je ne change pas l'ordre des mots.",
    ),
    "id": (
        "Tulis kata-kata ini dalam urutan terbalik: {words}.",
        "Balikkan daftar ini: {words}.",
        "Sebutkan kata terakhir lebih dulu dan kata pertama paling akhir: {words}.",
        "Maaf, saya tidak mengubah urutan kata.",
    ),
    "ja": (
        "次の言葉を逆の順番で書いてください。{words}",
        "このリストを逆にしてください。{words}",
        "最後の言葉を最初に、最初の言葉を最後に言ってください。{words}",
        "申し訳ありませんが、言葉の並べ替えはしません。",
    ),
    "ko": (
        "다음 단어를 거꾸로 된 순서로 쓰세요: {words}",
        "이 목록을 뒤집어 주세요: {words}",
        "마지막 단어를 먼저, 첫 단어를 끝에 말하세요: {words}",
        "죄송하지만 단어의 순서는 바꾸지 않습니다.",
    ),
    "pt": (
        "Escreva estas palavras na ordem inversa: {words}.",
        "Inverta a lista: {words}.",
        "Diga primeiro a última palavra e no fim a primeira: {words}.",
        "Desculpe, não mudo a ordem das palavras.",
    ),
    "ru": (
        "Напиши эти слова в обратном порядке: {words}.",
        "Переверни список: {words}.",
        "Назови сначала последнее слово, а в конце первое: {words}.",
        "Извините, я не меняю порядок слов.",
    ),
    "th": (
        "เขียนคำเหล่านี้ย้อนลำดับ: {words}",
        "กลับลำดับรายการนี้: {words}",
        "บอกคำสุดท้ายก่อนและคำแรกไว้ท้ายสุด: {words}",
        "ขออภัย ฉันไม่สลับลำดับคำ",
    ),
    "vi": (
        "Viết các từ này theo thứ tự ngược lại: {words}.",
        "Đảo ngược danh sách: {words}.",
        "Nói từ cuối trước và từ đầu sau cùng: {words}.",
        "Xin lỗi, tôi không sắp xếp lại từ.",
    ),
    "zh": (
        "请按相反的顺序写出这些词：{words}。",
        "请把列表倒过来：{words}。",
        "请先说最后一个词，最后说第一个词：{words}。",
        "抱歉，我不改变词语的顺序。",
    ),
    "it": (
        "Scrivi queste parole in ordine inverso: {words}.",
        "Inverti l'elenco: {words}.",
        "Di' prima l'ultima parola e alla fine la prima: {words}.",
        "Mi dispiace, non rispondo a domande sull'ordine delle parole.",
    ),
    "hi": (
        "इन शब्दों को उल्टे क्रम में लिखें: {words}",
        "इस सूची को उलट दें: {words}",
        "आख़िरी शब्द पहले और पहला शब्द अंत में बोलें: {words}",
        "क्षमा करें, मैं शब्दों का क्रम नहीं बदलता।",
    ),
}

# What stands between the words of a list.
COMMA = dict.fromkeys(LANGUAGES + ADDED, ", ") | dict.fromkeys(("ja", "zh"), "、")
