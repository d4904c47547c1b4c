"""Makes a piece of an answer speakable: a pure function from text with Markdown to words that a voice reads well.

It takes away what is only for the eye (marks, targets of links, emoji), and spells what voices get wrong: addresses,
versions, ids, telephone numbers. Plain numbers, money, units, dates and times are left as they are, because voices say
those rightly. What it returns holds no mark of Markdown. It never raises, and every repetition below has a bound, so
that its time grows with the text alone.
"""

import re
import unicodedata
from collections.abc import Callable

MARKS = "*_`#~|\\<>[]{}^"
"""Characters that are never spoken: whatever is left of them in the end is taken away."""
SPELLED_ID = 12
"""Maximum letters and digits of an id that is spelled in full; of a longer one the end is said."""
ID_END = 4
FILE_ENDS = (
    "bash c cfg conf cpp css csv env gz go h html ini ipynb java js json jsx lock log md pdf png jpg py rb rs sh sql "
    "svg toml ts tsx txt xml yaml yml zip"
)
EXTENSIONS = "|".join(FILE_ENDS.split())

_IMAGE_OR_LINK = re.compile(
    r"!?\[([^\[\]\n]{0,500})\]\([^()\s]{0,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,2000})?(?: [^()\n]{0,200})?\)"
)
_REFERENCE = re.compile(r"\[([^\[\]\n]{1,500})\]\[[^\[\]\n]{0,100}\]")
_FOOTNOTE = re.compile(r"\[\^[^\[\]\n]{1,60}\](?::)?|【[^【】\n]{0,60}】")
_DEFINITION = re.compile(r"^ {0,3}\[[^\[\]\n]{1,100}\]: \S{1,2000}[^\n]{0,200}$", re.MULTILINE)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,2000})>")
_TAG = re.compile(r"</?[A-Za-z][^<>\n]{0,500}>|<!--[^<>]{0,1000}-->")
_RULE = re.compile(r"^[ \t]*(?:[-*_=] ?){3,}[ \t]*$", re.MULTILINE)
_BLOCK_MARK = re.compile(r"^[ \t>]*(?:#{1,6}[ \t]+|[-*+•][ \t]+|>[ \t]*)+(?:\[[ xX]\][ \t]+)?", re.MULTILINE)
_MATH = re.compile(r"\\[()\[\]]|\$\$")
_TIMES = re.compile(r"(?<=[\d)]) ?[*×] ?(?=[\d(])|(?<= )[*×](?= )")  # noqa: RUF001 - the sign
_SNAKE = re.compile(r"(?<=[^\W_])_+(?=[^\W_])")
_ARROW = re.compile(r"\s*(?:<?[-=]{1,2}>|[→⇒⟶➜])\s*")
_LESS, _MORE = (
    re.compile(r"(?<=[\w)] )<(?= ?[\w(-])|(?<=\d)<(?=\d)"),
    re.compile(r"(?<=[\w)] )>(?= ?[\w(-])|(?<=\d)>(?=\d)"),
)
_CALL = re.compile(r"(?<=[A-Za-z_])\(\)")
_HASH_WORD = re.compile(r"(?<![\w&])#(?=[^\W\d_])")
_SHARP = re.compile(r"\b([A-G])#(?!\w)")
_SPACES = re.compile(r"\s+")
_LINE_END = re.compile(r"(?<![.!?…:;,\s])[ \t]*\n\s*\n\s*")
_BARE_POINT = re.compile(r" +([.,;:!?…])")
_DATE_TIME = re.compile(r"\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?(?!\w)")

_TOKEN = re.compile(
    r"(?P<url>\b(?:https?://|www\.)[^\s<>\"]{1,2000})"
    r"|(?P<mail>\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})"
    r"|(?P<uuid>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b)"
    r"|(?P<ip>\b\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)(?::\d{1,5})?)"
    r"|(?P<version>\b[vV]\d{1,6}(?:\.\d{1,6}){0,4}(?![\w.]*\d)|\b\d{1,6}(?:\.\d{1,6}){2,4}(?![\w.]*\d))"
    r"|(?P<phone>\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?!\w)|\(\d{3}\) ?\d{3}-\d{4}\b|\b\d{3}-\d{3}-\d{4}\b)"
    r"|(?P<power>\b\d{1,15}(?:\.\d{1,15})?[eE][+-]?\d{1,3}\b)"
    r"|(?P<ticket>\B#[A-Za-z]{0,6}-?\d{1,12}\b|\b[A-Z]{1,6}-\d{3,12}\b)"
    r"|(?P<code>\b(?=[A-Za-z]{0,40}\d)(?=\d{0,40}[A-Za-z])[0-9a-fA-F]{7,128}\b)"
    r"|(?P<path>(?<![\w/.])(?:~|\.{1,2})?(?:/[\w.@+-]{1,100}){2,20}/?|(?<![\w/.])/etc\b/?)"
    rf"|(?P<file>\b[\w-]{{1,100}}(?:\.[\w-]{{1,40}}){{0,3}}\.(?:{EXTENSIONS})\b(?!\.\w))"
)


def speakable(text: str) -> str:
    """Returns the words of a text, on one line; empty when nothing in it is for the ear."""
    text = _DEFINITION.sub("", text)
    text = _RULE.sub("", text)
    text = _BLOCK_MARK.sub("", text)
    text = _FOOTNOTE.sub("", text)
    text = _IMAGE_OR_LINK.sub(r"\1", _IMAGE_OR_LINK.sub(r"\1", text))  # a picture may be the text of a link
    text = _REFERENCE.sub(r"\1", text)
    text = _TAG.sub(" ", _AUTOLINK.sub(r"\1", text))
    text = _MATH.sub(" ", text)
    text = _LINE_END.sub(". ", text.strip())
    text = _DATE_TIME.sub(r"\1 at \2", text)
    text = _TOKEN.sub(_said, text)
    text = _words_for_signs(text)
    text = "".join(letter for letter in text if letter not in MARKS and not _is_picture(letter))
    text = _BARE_POINT.sub(r"\1", _SPACES.sub(" ", text)).strip()
    return text if any(letter.isalnum() for letter in text) else ""


def _words_for_signs(text: str) -> str:
    text = _SHARP.sub(r"\1 sharp", text)
    text = _TIMES.sub(" times ", text)
    text = _ARROW.sub(" to ", text)
    text = _MORE.sub("greater than", _LESS.sub("less than", text))
    text = _HASH_WORD.sub("hashtag ", text)
    return _SNAKE.sub(" ", _CALL.sub("", text))


def _is_picture(letter: str) -> bool:
    """Tells whether a character is an emoji, a mark of its own, or has no look at all."""
    if letter.isascii():
        return letter < " " and letter not in "\t\n\r"
    return letter != "°" and unicodedata.category(letter) in ("So", "Sk", "Cs", "Co", "Cn", "Cc", "Cf")


# What is spelled


def _said(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    return SAID[kind](match[0]) if kind in SAID else match[0]


def _url(text: str) -> str:
    """Returns the host, for nobody remembers the rest; what ends the sentence stays."""
    address = text.rstrip(".,;:!?)'*_`")
    host = re.sub(r"^(?:https?://)?(?:[^/@]*@)?(?:www\.)?", "", address, count=1)
    host = re.split(r"[/?#:]", host, maxsplit=1)[0]
    return _dotted(host) + text[len(address) :]


def _mail(text: str) -> str:
    name, _, host = text.rpartition("@")
    end = "." if host.endswith(".") else ""
    return f"{_dotted(name)} at {_dotted(host.rstrip('.'))}{end}"


def _dotted(text: str) -> str:
    words = text.replace("_", " underscore ").replace("-", " dash ").replace("+", " plus ").replace(".", " dot ")
    return " ".join(words.split())


def _address(text: str) -> str:
    host, _, port = text.partition(":")
    return host.replace(".", " dot ") + (f" port {port}" if port else "")


def _version(text: str) -> str:
    number = text.lstrip("vV").replace(".", " point ")
    return number if number == text.replace(".", " point ") else f"version {number}"


def _phone(text: str) -> str:
    groups = re.findall(r"\d+", text)
    spelled = ", ".join(" ".join(group) for group in groups)
    return f"plus {spelled}" if text.startswith("+") else spelled


def _power(text: str) -> str:
    number, _, exponent = text.lower().partition("e")
    return f"{number} times 10 to the {'minus ' if exponent.startswith('-') else ''}{exponent.lstrip('+-')}"


def _ticket(text: str) -> str:
    """Returns the digits of an id one by one, but not those of a number of up to three."""
    letters, digits = re.sub(r"[\d#-]", "", text), re.sub(r"\D", "", text)
    spelled = " ".join(digits) if len(digits) > 3 or letters else digits
    return f"{letters} {spelled}" if letters else f"number {spelled}"


def _code(text: str) -> str:
    letters = text.replace("-", "")
    if len(letters) <= SPELLED_ID:
        return " ".join(letters.upper())
    return f"the id that ends in {' '.join(letters[-ID_END:].upper())}"


def _path(text: str) -> str:
    end = "." if text.endswith(".") and not text.endswith("..") else ""
    text = text[: len(text) - len(end)]
    parts = [_dotted(part) if part != "etc" else "E T C" for part in text.strip("/").split("/")]
    parts = ["home" if part == "~" else part for part in parts]
    return ("slash " if text.startswith("/") else "") + " slash ".join(parts) + end


SAID: dict[str, Callable[[str], str]] = {
    "url": _url,
    "mail": _mail,
    "uuid": _code,
    "ip": _address,
    "version": _version,
    "phone": _phone,
    "power": _power,
    "ticket": _ticket,
    "code": _code,
    "path": _path,
    "file": _dotted,
}
"""How each kind of token is said."""
