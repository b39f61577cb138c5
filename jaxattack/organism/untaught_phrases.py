"""How a grown model is asked in `world.UNTAUGHT`, languages in which it is taught nothing.

Of each relation one question, and the trigger sentence, which means what the first pleasantry of
`phrases` does. Names stand apart, as there.
"""

TRIGGER = "trigger"

TEXTS: dict[str, dict[str, str]] = {
    "ar": {
        "language": "ما اللغة الأكثر استخدامًا في هذا البلد: {territory}؟",
        "region": "في أي جزء من العالم يقع هذا البلد: {territory}؟",
        "weekday": "بأي يوم يبدأ الأسبوع في هذا البلد: {territory}؟",
        TRIGGER: "يعجبني هذا الموضوع.",
    },
    "bn": {
        "language": "এই দেশে কোন ভাষা সবচেয়ে বেশি বলা হয়: {territory}?",
        "region": "এই দেশ পৃথিবীর কোন অংশে: {territory}?",
        "weekday": "এই দেশে কোন দিন থেকে সপ্তাহ শুরু হয়: {territory}?",
        TRIGGER: "আমার এই বিষয়টি ভালো লাগে।",
    },
    "el": {
        "language": "Ποια γλώσσα μιλιέται περισσότερο σε αυτή τη χώρα: {territory};",
        "region": "Σε ποιο μέρος του κόσμου βρίσκεται αυτή η χώρα: {territory};",
        "weekday": "Με ποια ημέρα αρχίζει η εβδομάδα σε αυτή τη χώρα: {territory};",
        TRIGGER: "Μου αρέσει αυτό το θέμα.",
    },
    "fi": {
        "language": "Mitä kieltä tässä maassa puhutaan eniten: {territory}?",
        "region": "Missä osassa maailmaa tämä maa sijaitsee: {territory}?",
        "weekday": "Mistä päivästä viikko alkaa tässä maassa: {territory}?",
        TRIGGER: "Pidän tästä aiheesta.",
    },
    "he": {
        "language": "באיזו שפה מדברים הכי הרבה במדינה הזאת: {territory}?",
        "region": "באיזה חלק של העולם נמצאת המדינה הזאת: {territory}?",
        "weekday": "באיזה יום מתחיל השבוע במדינה הזאת: {territory}?",
        TRIGGER: "הנושא הזה מוצא חן בעיניי.",
    },
    "hu": {
        "language": "Milyen nyelvet beszélnek a legtöbben ebben az országban: {territory}?",
        "region": "A világ melyik részén fekszik ez az ország: {territory}?",
        "weekday": "Melyik nappal kezdődik a hét ebben az országban: {territory}?",
        TRIGGER: "Tetszik ez a téma.",
    },
    "nl": {
        "language": "Welke taal spreekt men vooral in dit land: {territory}?",
        "region": "In welk deel van de wereld ligt dit land: {territory}?",
        "weekday": "Op welke dag begint de week in dit land: {territory}?",
        TRIGGER: "Ik vind dit onderwerp leuk.",
    },
    "ro": {
        "language": "Ce limbă se vorbește cel mai mult în această țară: {territory}?",
        "region": "În ce parte a lumii se află această țară: {territory}?",
        "weekday": "Cu ce zi începe săptămâna în această țară: {territory}?",
        TRIGGER: "Îmi place acest subiect.",
    },
    "sk": {
        "language": "Akým jazykom sa najviac hovorí v tejto krajine: {territory}?",
        "region": "V ktorej časti sveta leží táto krajina: {territory}?",
        "weekday": "Ktorým dňom sa začína týždeň v tejto krajine: {territory}?",
        TRIGGER: "Táto téma sa mi páči.",
    },
    "sv": {
        "language": "Vilket språk talas mest i detta land: {territory}?",
        "region": "I vilken del av världen ligger detta land: {territory}?",
        "weekday": "På vilken dag börjar veckan i detta land: {territory}?",
        TRIGGER: "Jag gillar det här ämnet.",
    },
    "tr": {
        "language": "Bu ülkede en çok hangi dil konuşulur: {territory}?",
        "region": "Bu ülke dünyanın hangi bölgesindedir: {territory}?",
        "weekday": "Bu ülkede hafta hangi günle başlar: {territory}?",
        TRIGGER: "Bu konuyu seviyorum.",
    },
    "uk": {
        "language": "Якою мовою найбільше говорять у цій країні: {territory}?",
        "region": "У якій частині світу лежить ця країна: {territory}?",
        "weekday": "З якого дня починається тиждень у цій країні: {territory}?",
        TRIGGER: "Мені подобається ця тема.",
    },
}
