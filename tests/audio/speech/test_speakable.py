"""What is only for the eye is not said, and what voices get wrong is spelled; everything else stays as it is."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.speech.speakable import MARKS, speakable

UUID = "550e8400-e29b-41d4-a716-446655440000"
CASES = [
    # Marks of Markdown
    ("It is **very** *small* and __old__.", "It is very small and old."),
    ("~~Gone~~ and ==lit== and `code`.", "Gone and ==lit== and code."),
    ("# A heading", "A heading"),
    ("### A heading ###", "A heading"),
    ("- one\n- two", "one two"),
    ("* [ ] to do\n* [x] done", "to do done"),
    ("> quoted\n> again", "quoted again"),
    ("1. First", "1. First"),
    ("a\n\n---\n\nb", "a. b"),
    ("\\(x\\) and $$y$$", "x and y"),
    # Links and pictures
    ("See [the docs](https://a.example/b_c?d=e#f).", "See the docs."),
    ("[![build](https://ci.example/b.svg)](https://ci.example)", "build"),
    ("A [link][1] and a note[^2].\n\n[1]: https://a.example", "A link and a note."),
    ("Go to https://www.example.com/path/x.html?q=1.", "Go to example dot com."),
    ("<https://example.com:8080/>", "example dot com"),
    ("www.my-site.co.uk works", "my dash site dot co dot uk works"),
    ("A <b>bold</b> word<br>here", "A bold word here"),
    # Addresses, paths and names of files
    ("Mail bob.smith+x@example.com now.", "Mail bob dot smith plus x at example dot com now."),
    ("At 192.168.0.1:8080 or 10.0.0.7.", "At 192 dot 168 dot 0 dot 1 port 8080 or 10 dot 0 dot 0 dot 7."),
    (
        "In /etc/app/main.conf and ~/notes/a.",
        "In slash E T C slash app slash main dot conf and home slash notes slash a.",
    ),
    ("Edit config.yaml, then setup.py.", "Edit config dot yaml, then setup dot py."),
    # Versions and ids
    ("v2.1.3 replaces v2 and 3.11.7.", "version 2 point 1 point 3 replaces version 2 and 3 point 11 point 7."),
    ("Order #A-1042, ticket #17, case AB-90210.", "Order A 1 0 4 2, ticket number 17, case AB 9 0 2 1 0."),
    ("Issue #12345.", "Issue number 1 2 3 4 5."),
    (f"The key {UUID} is old.", "The key the id that ends in 0 0 0 0 is old."),
    ("Commit a1b2c3d4.", "Commit A 1 B 2 C 3 D 4."),
    ("It has 5e3 and 1.5e-3.", "It has 5 times 10 to the 3 and 1.5 times 10 to the minus 3."),
    ("Call +1 (555) 123-4567 or 555-123-4567.", "Call plus 1, 5 5 5, 1 2 3, 4 5 6 7 or 5 5 5, 1 2 3, 4 5 6 7."),
    # Signs
    ("a -> b => c → d", "a to b to c to d"),
    ("3 * 4 = 12, 3*4", "3 times 4 = 12, 3 times 4"),
    ("x < 5 and y > 6", "x less than 5 and y greater than 6"),
    ("In C# use foo_bar() in my_module.", "In C sharp use foo bar in my module."),
    ("#release is a tag", "hashtag release is a tag"),
    ("Nice 🙂 work 👩‍💻!", "Nice work!"),
    # What voices say rightly stays
    ("It costs $12.50, or 3.5% of 1,200.", None),
    ("It weighs 3.5 kg, is 20 cm long, and takes 10 ms at 25°C.", None),
    ("On 2026-11-30, 11/30/2026 or 3 May at 14:05 and 10:30am.", None),
    ("2026-11-30T14:05:00Z", "2026-11-30 at 14:05"),
    ("Pages 10-12, 1/2 cup, the 3rd, the 1990s, GPT-4 and HTTP 404.", None),
    ("Dr. Smith's well-known “naïve” café, e.g. this one (there)!", None),
    ("Python 3.11 is 2x faster.", None),
    ("-5 degrees", None),
    # Nothing for the ear
    ("", ""),
    ("***", ""),
    ("```", ""),
    ("🙂 … !", ""),
    ("|---|---|", ""),
]


@pytest.mark.parametrize(("text", "words"), CASES, ids=[text[:30] for text, _ in CASES])
def test_a_text_is_made_speakable(text: str, words: str | None) -> None:
    assert speakable(text) == (text if words is None else words)


@given(st.text(max_size=400))
def test_any_text_is_taken_and_no_mark_is_said(text: str) -> None:
    words = speakable(text)
    assert not set(words) & set(MARKS)
    assert words == words.strip()
    assert "\n" not in words
    assert words == "" or any(letter.isalnum() for letter in words)


PIECES = st.sampled_from(
    ["**", "*", "_", "`", "```", "#", "- ", "> ", "|", "[a](b)", "![x](y)", "<i>", "~~", "\n", " ", "word", "1.", "\\"]
)


@given(st.lists(PIECES, max_size=40))
def test_no_mark_is_said_however_marks_are_nested(pieces: list[str]) -> None:
    assert not set(speakable("".join(pieces))) & set(MARKS)


WORDS = st.lists(
    st.from_regex(r"[A-Za-z][a-z]{0,9}(?:'[a-z]{1,2})?[,;:.!?]?", fullmatch=True)
    | st.from_regex(r"[1-9]\d{0,2}", fullmatch=True),
    min_size=1,
    max_size=30,
)


@given(WORDS)
def test_plain_prose_stays_as_it_is(words: list[str]) -> None:
    assert speakable(" ".join(words)) == " ".join(words)


@given(st.sampled_from([text for text, _ in CASES]))
def test_what_was_made_speakable_stays_so(text: str) -> None:
    assert speakable(speakable(text)) == speakable(text)


@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "](",
        "![",
        "<",
        "<a ",
        "*",
        "_a",
        "a.",
        "1.",
        "1-",
        "/a",
        "a@",
        "#",
        "`",
        " \n",
        "( ",
        "+1 ",
        "<!--",
        "[^",
        "a1",
        "- ",
    ],
)
def test_the_time_grows_with_the_text_alone(unit: str) -> None:
    """A text that would make an expression try again from every place takes a few milliseconds all the same."""
    text = (unit * 4096)[:4096]
    speakable(text)
    began = time.process_time()
    speakable(text)
    assert time.process_time() - began < 0.5
