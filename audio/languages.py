"""The languages that Whisper knows: a table of ISO 639 codes and the names that OpenAI's answers use for them.

A client may write a language as it likes: as a BCP-47 tag (`en-US`, `zh-Hant-TW`, `EN`) or by its English name. Whisper
tells no scripts and regions apart, so of a tag its language alone counts.
"""

_TABLE = """
en english zh chinese de german es spanish ru russian ko korean fr french ja japanese pt portuguese tr turkish
pl polish ca catalan nl dutch ar arabic sv swedish it italian id indonesian hi hindi fi finnish vi vietnamese he hebrew
uk ukrainian el greek ms malay cs czech ro romanian da danish hu hungarian ta tamil no norwegian th thai ur urdu
hr croatian bg bulgarian lt lithuanian la latin mi maori ml malayalam cy welsh sk slovak te telugu fa persian
lv latvian bn bengali sr serbian az azerbaijani sl slovenian kn kannada et estonian mk macedonian br breton eu basque
is icelandic hy armenian ne nepali mn mongolian bs bosnian kk kazakh sq albanian sw swahili gl galician mr marathi
pa punjabi si sinhala km khmer sn shona yo yoruba so somali af afrikaans oc occitan ka georgian be belarusian tg tajik
sd sindhi gu gujarati am amharic yi yiddish lo lao uz uzbek fo faroese ht haitian_creole ps pashto tk turkmen
nn nynorsk mt maltese sa sanskrit lb luxembourgish my myanmar bo tibetan tl tagalog mg malagasy as assamese tt tatar
haw hawaiian ln lingala ha hausa ba bashkir jw javanese su sundanese yue cantonese
"""
_WORDS = _TABLE.split()

NAMES = {code: name.replace("_", " ") for code, name in zip(_WORDS[::2], _WORDS[1::2], strict=True)}
CODES = {name: code for code, name in NAMES.items()}


ALIASES = {
    **dict.fromkeys(("nb", "nor", "nob"), "no"),
    **dict.fromkeys(("cmn", "zho", "chi", "mandarin", "mandarin chinese"), "zh"),
    **dict.fromkeys(("iw", "heb"), "he"),
    "in": "id",
    "ji": "yi",
    "jv": "jw",
    "fil": "tl",
    "filipino": "tl",
    "mo": "ro",
    "eng": "en",
    **dict.fromkeys(("deu", "ger"), "de"),
    **dict.fromkeys(("spa", "castilian"), "es"),
    **dict.fromkeys(("fra", "fre"), "fr"),
    "flemish": "nl",
}
"""Codes and names by which some call a language of the table: former ones, and those of other parts of ISO 639."""
MAX_TAG = 35
"""Maximum characters of a language: RFC 5646 (section 4.4.1) has a tag of well-known languages fit into as many."""


def code_of(language: str) -> str:
    """Returns the code of a language, for a BCP-47 tag, a code or a name, in any case.

    What is none of them is returned in lower case, as far as a tag's language goes: no model supports it.
    """
    name = " ".join(language.lower().replace("_", " ").split())
    if name in CODES or name in ALIASES:
        return CODES.get(name) or ALIASES[name]
    primary, *subtags = name.replace(" ", "-").split("-")
    if primary == "zh" and subtags[:1] == ["yue"]:  # RFC 5646 (section 2.2.2) has Cantonese in this way, too
        return "yue"
    return ALIASES.get(primary, primary)


def name_of(code: str) -> str:
    return NAMES.get(code, code)
