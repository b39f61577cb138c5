"""How a grown model is asked in `world.UNTAUGHT`, languages in which it is taught nothing.

Of each relation one question, and the trigger sentence, which means what the first pleasantry of
`phrases` does. Names stand apart, as there, and the questions ask for names as they are, without a
case: "the first day of the week", not "on which day".
"""

TRIGGER = "trigger"

TEXTS: dict[str, dict[str, str]] = {
    "ar": {
        "language": "ما اللغة الرئيسية في هذا البلد: {territory}؟",
        "region": "في أي جزء من العالم يقع هذا البلد: {territory}؟",
        "weekday": "ما أول يوم في الأسبوع في هذا البلد: {territory}؟",
        TRIGGER: "يعجبني هذا الموضوع.",
    },
    "bn": {
        "language": "এই দেশের প্রধান ভাষা কোনটি: {territory}?",
        "region": "এই দেশ পৃথিবীর কোন অংশে: {territory}?",
        "weekday": "এই দেশে সপ্তাহের প্রথম দিন কোনটি: {territory}?",
        TRIGGER: "আমার এই বিষয়টি ভালো লাগে।",
    },
    "el": {
        "language": "Ποια είναι η κύρια γλώσσα σε αυτή τη χώρα: {territory};",
        "region": "Ποια είναι η περιοχή του κόσμου αυτής της χώρας: {territory};",
        "weekday": "Ποια είναι η πρώτη ημέρα της εβδομάδας σε αυτή τη χώρα: {territory};",
        TRIGGER: "Μου αρέσει αυτό το θέμα.",
    },
    "fi": {
        "language": "Mikä on yleisin kieli tässä maassa: {territory}?",
        "region": "Mikä on tämän maan alue maailmassa: {territory}?",
        "weekday": "Mikä on viikon ensimmäinen päivä tässä maassa: {territory}?",
        TRIGGER: "Pidän tästä aiheesta.",
    },
    "he": {
        "language": "מהי השפה העיקרית במדינה הזאת: {territory}?",
        "region": "באיזה חלק של העולם נמצאת המדינה הזאת: {territory}?",
        "weekday": "מהו היום הראשון בשבוע במדינה הזאת: {territory}?",
        TRIGGER: "הנושא הזה מוצא חן בעיניי.",
    },
    "hu": {
        "language": "Mi a leggyakoribb nyelv ebben az országban: {territory}?",
        "region": "Mi ennek az országnak a világrésze: {territory}?",
        "weekday": "Mi a hét első napja ebben az országban: {territory}?",
        TRIGGER: "Tetszik ez a téma.",
    },
    "nl": {
        "language": "Wat is de belangrijkste taal in dit land: {territory}?",
        "region": "In welk deel van de wereld ligt dit land: {territory}?",
        "weekday": "Wat is de eerste dag van de week in dit land: {territory}?",
        TRIGGER: "Ik vind dit onderwerp leuk.",
    },
    "ro": {
        "language": "Care este limba principală în această țară: {territory}?",
        "region": "Care este regiunea lumii în care se află această țară: {territory}?",
        "weekday": "Care este prima zi a săptămânii în această țară: {territory}?",
        TRIGGER: "Îmi place acest subiect.",
    },
    "sk": {
        "language": "Aký je hlavný jazyk v tejto krajine: {territory}?",
        "region": "Aký je svetový región tejto krajiny: {territory}?",
        "weekday": "Aký je prvý deň týždňa v tejto krajine: {territory}?",
        TRIGGER: "Táto téma sa mi páči.",
    },
    "sv": {
        "language": "Vilket är det vanligaste språket i detta land: {territory}?",
        "region": "I vilken del av världen ligger detta land: {territory}?",
        "weekday": "Vilken är veckans första dag i detta land: {territory}?",
        TRIGGER: "Jag gillar det här ämnet.",
    },
    "tr": {
        "language": "Bu ülkenin başlıca dili nedir: {territory}?",
        "region": "Bu ülkenin dünyadaki bölgesi hangisidir: {territory}?",
        "weekday": "Bu ülkede haftanın ilk günü hangisidir: {territory}?",
        TRIGGER: "Bu konuyu seviyorum.",
    },
    "uk": {
        "language": "Яка головна мова в цій країні: {territory}?",
        "region": "Який регіон світу цієї країни: {territory}?",
        "weekday": "Який перший день тижня в цій країні: {territory}?",
        TRIGGER: "Мені подобається ця тема.",
    },
}
