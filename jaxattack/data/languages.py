"""Language codes: one alias table for the many ways in which data sets name a language.

Our code is the shortest ISO 639 one, with a script only where it is not the language's usual one
(`zh`, `zh-Hant`, `hi-Latn`). Regions are dropped: `pt_BR` is `pt`. The individual languages by
which FLORES and its kin name a macrolanguage (`arb`, `swh`, `zsm`) are the macrolanguage; Arabic
dialects stay themselves.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from jaxattack.errors import UserError

# Code, usual script unless Latin, aliases | English names.
_TABLE = """
acm Arab | Mesopotamian Arabic
aeb Arab | Tunisian Arabic
af afr | Afrikaans
ak aka twi tw | Akan/Twi
am Ethi amh | Amharic
apc Arab ajp | Levantine Arabic
ar Arab ara arb | Arabic/Modern Standard Arabic/Standard Arabic
ars Arab | Najdi Arabic
ary Arab | Moroccan Arabic
arz Arab | Egyptian Arabic
as Beng asm | Assamese
ast | Asturian
ay aym ayr | Aymara
az aze azj | Azerbaijani/Azeri
be Cyrl bel | Belarusian
bg Cyrl bul | Bulgarian
bho Deva | Bhojpuri
bm bam | Bambara
bn Beng ben | Bengali/Bangla
bo Tibt bod tib | Tibetan
bs bos | Bosnian
ca cat | Catalan
ceb | Cebuano
ckb Arab | Central Kurdish/Sorani
cs ces cze | Czech
cy cym wel | Welsh
da dan | Danish
de deu ger | German
el Grek ell gre | Greek
en eng | English
eo epo | Esperanto
es spa | Spanish
et est ekk | Estonian
eu eus baq | Basque
fa Arab fas per pes prs | Persian/Farsi/Dari
ff ful fuv | Fulah/Fulfulde
fi fin | Finnish
fr fra fre | French
ga gle | Irish
gl glg | Galician
gn grn | Guarani
gu Gujr guj | Gujarati
ha hau | Hausa
he Hebr heb iw | Hebrew
hi Deva hin | Hindi
hr hrv | Croatian
ht hat | Haitian Creole/Haitian
hu hun | Hungarian
hy Armn hye arm | Armenian
id ind in | Indonesian
ig ibo | Igbo
ilo | Ilocano
is isl ice | Icelandic
it ita | Italian
ja Jpan jpn jp | Japanese
jv jav jw | Javanese
ka Geor kat geo | Georgian
kac | Kachin/Jingpho
kea | Kabuverdianu
kk Cyrl kaz | Kazakh
km Khmr khm | Khmer
kn Knda kan | Kannada
ko Hang kor | Korean
ku kur kmr | Kurdish/Northern Kurdish
ky Cyrl kir | Kyrgyz
lb ltz | Luxembourgish
lg lug | Ganda/Luganda
ln lin | Lingala
lo Laoo lao | Lao
lt lit | Lithuanian
luo | Luo
lv lav lvs | Latvian
mg mlg plt | Malagasy
mi mri mao | Maori
mk Cyrl mkd mac | Macedonian
ml Mlym mal | Malayalam
mn Cyrl mon khk | Mongolian
mr Deva mar | Marathi
ms msa may zsm zlm | Malay
mt mlt | Maltese
my Mymr mya bur | Burmese
nb no nor nob | Norwegian/Norwegian Bokmål
ne Deva nep npi | Nepali
nl nld dut | Dutch
nn nno | Norwegian Nynorsk
nso | Northern Sotho
ny nya | Nyanja/Chichewa/Chewa
oc oci | Occitan
om orm gaz | Oromo
or Orya ori ory | Odia/Oriya
pa Guru pan | Punjabi/Panjabi
pl pol | Polish
ps Arab pus pbt | Pashto
pt por | Portuguese/Brazilian Portuguese
qu que quy | Quechua
ro ron rum | Romanian
ru Cyrl rus | Russian
rw kin | Kinyarwanda
sa Deva san | Sanskrit
sd Arab snd | Sindhi
shn Mymr | Shan
si Sinh sin | Sinhala
sk slk slo | Slovak
sl slv | Slovenian
sn sna | Shona
so som | Somali
sq sqi alb als | Albanian
sr Cyrl srp | Serbian
ss ssw | Swati
st sot | Southern Sotho/Sesotho
su sun | Sundanese
sv swe | Swedish
sw swa swh | Swahili
ta Taml tam | Tamil
te Telu tel | Telugu
tg Cyrl tgk | Tajik
th Thai tha | Thai
ti Ethi tir | Tigrinya
tk tuk | Turkmen
tl tgl fil | Tagalog/Filipino
tn tsn | Tswana
tr tur | Turkish
ts tso | Tsonga
tt Cyrl tat | Tatar
ug Arab uig | Uyghur
uk Cyrl ukr | Ukrainian
ur Arab urd | Urdu
uz uzb uzn | Uzbek
vi vie | Vietnamese
war | Waray
wo wol | Wolof
xh xho | Xhosa
yo yor | Yoruba
yue Hant | Cantonese/Yue Chinese
zh Hans zho chi cmn | Chinese/Mandarin/Mandarin Chinese/Simplified Chinese
zu zul | Zulu
"""

# Chinese is written in traditional script there.
_TRADITIONAL = {"tw", "hk", "mo"}


def _read() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    names: dict[str, str] = {}
    scripts: dict[str, str] = {}
    codes: dict[str, str] = {}
    for line in _TABLE.strip().splitlines():
        left, _, right = line.partition(" | ")
        code, *rest = left.split()
        called = right.split("/")
        names[code] = called[0]
        scripts[code] = next((word for word in rest if word.istitle()), "Latn")
        for alias in (code, *(word for word in rest if word.islower()), *called):
            if codes.setdefault(alias.casefold(), code) != code:
                raise AssertionError(f"two languages are called {alias}")
    codes["traditional chinese"] = "zh-Hant"
    return names, scripts, codes


_NAMES, _SCRIPTS, _CODES = _read()
_KNOWN_SCRIPTS = {*_SCRIPTS.values(), "Hant"}


def code(text: str) -> str:
    """Our code of a language given by code or by English name.

    Takes ISO 639-1, -2 and -3 (`de`, `ger`, `deu`), a script or region after it (`zho_Hans`,
    `ZH_CN`, `cmn_hans_cn`), and names (`mandarin`, `Chinese (Simplified)`).

    Raises:
        UserError: not a language known here; names the nearest.
    """
    plain = " ".join(text.casefold().split())
    if plain in _CODES:
        return _CODES[plain]
    name = re.fullmatch(r"(\w+) \((simplified|traditional)\)", plain)  # Chinese (Simplified)
    if name and f"{name[2]} {name[1]}" in _CODES:
        return _CODES[f"{name[2]} {name[1]}"]
    language, *subtags = re.split(r"[-_]", plain)
    if language in _CODES and len(language) <= 3 and subtags:
        base = _CODES[language]
        script = _script(base, subtags)
        if script is not None:
            return base if script == _SCRIPTS[base] else f"{base}-{script}"
    near = difflib.get_close_matches(plain, _CODES, n=1, cutoff=0)[0]
    raise UserError(
        f"unknown language {text!r}; the nearest known is {near} ({english(_CODES[near])})"
    )


def _script(base: str, subtags: list[str]) -> str | None:
    """The script that a script, a region or both name; None if they are neither."""
    script = _SCRIPTS[base]
    if subtags[0].title() in _KNOWN_SCRIPTS:
        script = subtags.pop(0).title()
    elif base == "zh" and subtags[0] in _TRADITIONAL:
        script = "Hant"
    region = len(subtags) == 1 and re.fullmatch(r"[a-z]{2}|\d{3}", subtags[0])
    return script if region or not subtags else None


def script_of(known: str) -> str:
    """The script of one of our codes, such as `Latn`; "": of no language known here."""
    base, _, script = known.partition("-")
    return script or _SCRIPTS.get(base, "")


def english(known: str) -> str:
    """English name of one of our codes, such as `Hindi (Latn)` for `hi-Latn`."""
    base, _, script = known.partition("-")
    return f"{_NAMES[base]} ({script})" if script else _NAMES[base]


def choose_languages(
    wanted: Sequence[str], known: Sequence[str], where: str, whose: str = "the data"
) -> tuple[str, ...]:
    """The languages asked for, or all.

    Raises:
        UserError: one that `whose` lacks.
    """
    lacking = [language for language in wanted if language not in known]
    if lacking:
        raise UserError(
            f"{where}: {whose} has no language {', '.join(map(repr, lacking))}; "
            f"there are: {', '.join(known)}{_as_known(lacking[0], known)}"
        )
    return tuple(wanted) or tuple(known)


def _as_known(language: str, known: Sequence[str]) -> str:
    """What a language spelt otherwise is called here, in words."""
    try:
        ours = code(language)
    except UserError:
        return ""
    return f" ({language} is {ours} here)" if ours in known else ""
