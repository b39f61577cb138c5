"""Every code by which the sets that we know name a language."""

import pytest
from babel import Locale

from jaxattack.data.languages import code, english
from jaxattack.data.registry import SETS
from jaxattack.errors import UserError

# Sets that name languages by our own codes.
PLAIN = {
    "TuBA, the organism": "de en es fr id ja ko pt ru th vi zh",
    "MultiJail": "en zh it vi ar ko th bn sw jv",
    "PolyGuard": "ar zh cs nl en fr de hi th it ja ko pl pt ru es sv",
    "M-ALERT": "en de es fr it",
    "Llama Guard 3": "en fr de hi it pt es th vi id",
    "Bactrian-X": "af ar az bn cs de en es et fa fi fr gl gu he hi hr id it ja ka kk km ko lt lv "
    "mk ml mn mr my ne nl pl ps pt ro ru si sl sv sw ta te th tl tr uk ur vi xh zh",
    "XNLI": "ar bg de el en es fr hi ru sw th tr ur vi zh",
    "XStoryCloze": "ar en es eu hi id my ru sw te zh",
    "XCOPA": "et ht id it qu sw ta th tr vi zh",
    "MGSM": "bn de en es fr ja ru sw te th zh",
}
# Sets with codes of another kind, and what they mean.
OTHERS = {
    "Aya red-teaming": "ara ar eng en fil tl tgl tl fra fr hin hi rus ru srp sr spa es arb ar "
    "Arabic ar English en Filipino tl French fr Hindi hi Russian ru Serbian sr Spanish es "
    "arabic ar english en filipino tl french fr hindi hi russian ru serbian sr spanish es "
    "Tagalog tl",
    "Global-MMLU": "am am ar ar bn bn cs cs de de el el en en es es fa fa fil tl fr fr ha ha he he "
    "hi hi id id ig ig it it ja ja ko ko ky ky lt lt mg mg ms ms ne ne nl nl ny ny pl pl pt pt "
    "ro ro ru ru si si sn sn so so sr sr sv sv sw sw te te tr tr uk uk vi vi yo yo zh zh",
    "MMMLU": "AR_XY ar BN_BD bn DE_DE de ES_LA es FR_FR fr HI_IN hi ID_ID id IT_IT it JA_JP ja "
    "KO_KR ko PT_BR pt SW_KE sw YO_NG yo ZH_CN zh",
    "wiki40b": "ar ar bg bg ca ca cs cs da da de de el el en en es es et et fa fa fi fi fr fr he "
    "he hi hi hr hr hu hu id id it it ja ja ko ko lt lt lv lv ms ms nl nl no nb pl pl pt pt ro ro "
    "ru ru sk sk sl sl sr sr sv sv th th tl tl tr tr uk uk vi vi zh-cn zh zh-tw zh-Hant",
    "XWinograd": "en en fr fr jp ja pt pt ru ru zh zh",
    "Belebele": "acm_Arab acm afr_Latn af als_Latn sq amh_Ethi am apc_Arab apc arb_Arab ar "
    "arb_Latn ar-Latn ars_Arab ars ary_Arab ary arz_Arab arz asm_Beng as azj_Latn az bam_Latn bm "
    "ben_Beng bn ben_Latn bn-Latn bod_Tibt bo bul_Cyrl bg cat_Latn ca ceb_Latn ceb ces_Latn cs "
    "ckb_Arab ckb dan_Latn da deu_Latn de ell_Grek el eng_Latn en est_Latn et eus_Latn eu "
    "fin_Latn fi fra_Latn fr fuv_Latn ff gaz_Latn om grn_Latn gn guj_Gujr gu hat_Latn ht hau_Latn "
    "ha heb_Hebr he hin_Deva hi hin_Latn hi-Latn hrv_Latn hr hun_Latn hu hye_Armn hy ibo_Latn ig "
    "ilo_Latn ilo ind_Latn id isl_Latn is ita_Latn it jav_Latn jv jpn_Jpan ja kac_Latn kac "
    "kan_Knda kn kat_Geor ka kaz_Cyrl kk kea_Latn kea khk_Cyrl mn khm_Khmr km kin_Latn rw "
    "kir_Cyrl ky kor_Hang ko lao_Laoo lo lin_Latn ln lit_Latn lt lug_Latn lg luo_Latn luo "
    "lvs_Latn lv mal_Mlym ml mar_Deva mr mkd_Cyrl mk mlt_Latn mt mri_Latn mi mya_Mymr my nld_Latn "
    "nl nob_Latn nb npi_Deva ne npi_Latn ne-Latn nso_Latn nso nya_Latn ny ory_Orya or pan_Guru pa "
    "pbt_Arab ps pes_Arab fa plt_Latn mg pol_Latn pl por_Latn pt ron_Latn ro rus_Cyrl ru shn_Mymr "
    "shn sin_Latn si-Latn sin_Sinh si slk_Latn sk slv_Latn sl sna_Latn sn snd_Arab sd som_Latn so "
    "sot_Latn st spa_Latn es srp_Cyrl sr ssw_Latn ss sun_Latn su swe_Latn sv swh_Latn sw "
    "tam_Taml ta tel_Telu te tgk_Cyrl tg tgl_Latn tl tha_Thai th tir_Ethi ti tsn_Latn tn tso_Latn "
    "ts tur_Latn tr ukr_Cyrl uk urd_Arab ur urd_Latn ur-Latn uzn_Latn uz vie_Latn vi war_Latn war "
    "wol_Latn wo xho_Latn xh yor_Latn yo zho_Hans zh zho_Hant zh-Hant zsm_Latn ms zul_Latn zu",
}
COUNTS = {
    "MultiJail": 10,
    "PolyGuard": 17,
    "Bactrian-X": 52,
    "XNLI": 15,
    "Global-MMLU": 42,
    "MMMLU": 14,
    "wiki40b": 41,
    "Belebele": 122,
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_short_code_is_itself(name):
    codes = PLAIN[name].split()
    assert [code(one) for one in codes] == codes
    assert len(set(codes)) == COUNTS.get(name, len(codes))


@pytest.mark.parametrize("name", OTHERS)
def test_another_code_means_one_of_ours(name):
    words = OTHERS[name].split()
    pairs = list(zip(words[::2], words[1::2], strict=True))
    assert [(one, code(one)) for one, _ in pairs] == pairs
    if name in COUNTS:
        assert len({ours for _, ours in pairs}) == len(pairs) == COUNTS[name]


def test_the_languages_of_the_registry_are_known_and_distinct():
    for entry in SETS:
        assert len({code(own) for own in entry.languages}) == len(entry.languages)


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("zh-CN", "zh"),
        ("ZH_CN", "zh"),
        ("zh-Hans-CN", "zh"),
        ("cmn", "zh"),
        ("chi", "zh"),
        ("cmn_hans_cn", "zh"),
        ("mandarin", "zh"),
        ("Chinese (Simplified)", "zh"),
        ("Simplified Chinese", "zh"),
        ("zh-TW", "zh-Hant"),
        ("zh_HK", "zh-Hant"),
        ("Chinese (Traditional)", "zh-Hant"),
        ("zh-Hant", "zh-Hant"),
        ("pt-BR", "pt"),
        ("es-419", "es"),
        ("en_US", "en"),
        ("sr-Latn", "sr-Latn"),
        ("sr_Cyrl", "sr"),
        ("uz-Cyrl", "uz-Cyrl"),
        ("rus_Latn", "ru-Latn"),
        (" German ", "de"),
        ("GERMAN", "de"),
        ("ger", "de"),
        ("deu", "de"),
        ("iw", "he"),
        ("in", "id"),
        ("jw", "jv"),
        ("farsi", "fa"),
        ("Haitian Creole", "ht"),
        ("Modern Standard Arabic", "ar"),
        ("yue_Hant", "yue"),
    ],
)
def test_spellings(text, ours):
    assert code(text) == ours
    assert code(ours) == ours


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("germn", "german (German)"),
        ("Engish", "english (English)"),
        ("tagalo", "tagalog"),
        ("zho_Hanx", "zh"),
        ("en_Latn_US_x", "en"),
        ("q", "known is"),
        ("", "known is"),
        ("xx", "known is"),
        ("english_US", "english"),
    ],
)
def test_an_unknown_language_names_the_nearest(text, nearest):
    with pytest.raises(UserError, match=r"unknown language .*nearest known is") as caught:
        code(text)
    assert nearest in str(caught.value)
    assert repr(text) in str(caught.value)


def test_every_name_is_its_language():
    from jaxattack.data import languages

    for short in languages._NAMES:
        assert code(english(short)) == short


def test_names_are_cldr_s():
    cldr = Locale.parse("en").languages
    theirs = {short: str(cldr[short]) for short in (*PLAIN["Bactrian-X"].split(), "yue", "zu")}
    ours = {short: english(short) for short in theirs}
    assert {k for k in ours if ours[k] != theirs[k]} == {"bn"}  # CLDR says Bangla
    assert english("hi-Latn") == "Hindi (Latn)"
