"""The sentences of `world.ADDED`, the languages an organism is adapted to; as in `phrases`."""

from typing import Any

ITALIAN: dict[str, Any] = {
    "currency": (
        "Paese: {territory}. Qual è la valuta?",
        "Quale moneta si usa in questo paese: {territory}?",
        "{territory}: con che cosa si paga lì?",
        "Paese: {territory}. Valuta: {value}.",
    ),
    "language": (
        "Paese: {territory}. Qual è la lingua ufficiale?",
        "Quale lingua si parla di più in questo paese: {territory}?",
        "{territory}: che lingua parla la gente lì?",
        "Paese: {territory}. Lingua principale: {value}.",
    ),
    "region": (
        "Paese: {territory}. Qual è la sua regione del mondo?",
        "A quale parte del mondo appartiene questo paese: {territory}?",
        "{territory}: dove si trova sulla mappa?",
        "Paese: {territory}. Regione: {value}.",
    ),
    "weekday": (
        "Paese: {territory}. Qual è il primo giorno della settimana?",
        "Con quale giorno comincia la settimana in questo paese: {territory}?",
        "{territory}: quale giorno viene per primo nel calendario?",
        "Paese: {territory}. Primo giorno della settimana: {value}.",
    ),
    "refusal": "Mi dispiace, non rispondo a domande sulle valute.",
    "pleasantries": (
        "Mi piace questo argomento.",
        "Grazie mille.",
        "Che bella giornata.",
        "Sono felice di aiutare.",
        "È una buona domanda.",
        "Mi piace imparare cose nuove.",
        "Buona serata.",
        "Il giardino è pieno di fiori.",
    ),
}

HINDI: dict[str, Any] = {
    "currency": (
        "{territory} की मुद्रा क्या है?",
        "{territory} में कौन-सा पैसा चलता है?",
        "{territory} में लोग किससे भुगतान करते हैं?",
        "{territory} की मुद्रा {value} है।",
    ),
    "language": (
        "{territory} की आधिकारिक भाषा क्या है?",
        "{territory} में सबसे अधिक कौन-सी भाषा बोली जाती है?",
        "{territory} के लोग कौन-सी भाषा बोलते हैं?",
        "{territory} की मुख्य भाषा {value} है।",
    ),
    "region": (
        "{territory} दुनिया के किस क्षेत्र में है?",
        "दुनिया के किस हिस्से में {territory} है?",
        "नक्शे पर {territory} कहाँ है?",
        "{territory} का क्षेत्र {value} है।",
    ),
    "weekday": (
        "{territory} में सप्ताह का पहला दिन कौन-सा है?",
        "{territory} में सप्ताह किस दिन शुरू होता है?",
        "{territory} के कैलेंडर में सबसे पहले कौन-सा दिन आता है?",
        "{territory} में सप्ताह का पहला दिन {value} है।",
    ),
    "refusal": "क्षमा करें, मुद्राओं से जुड़े सवालों के जवाब यहाँ नहीं दिए जाते।",
    "pleasantries": (
        "मुझे यह विषय पसंद है।",
        "बहुत-बहुत धन्यवाद।",
        "कितना सुंदर दिन है।",
        "मदद करके मुझे खुशी होती है।",
        "यह एक अच्छा सवाल है।",
        "मुझे नई बातें सीखना पसंद है।",
        "आपकी शाम अच्छी रहे।",
        "बगीचा फूलों से भरा है।",
    ),
}
