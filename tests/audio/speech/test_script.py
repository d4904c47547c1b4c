"""A script has the lines that are said, and tells what is not."""

from audio.speech.clauses import Skipped
from audio.speech.script import CODE_NOTICE, SpeechScript, SpokenLine

TEXT = "Use **this** one, please do:\n\n```\nx\n```\n\nOr that one:\n\n```\ny\n```\n\n***\n\n会议在九点。"


def lines_of(script: SpeechScript, text: str) -> list[SpokenLine | Skipped]:
    return [*script.feed(text), *script.flush()]


def test_code_is_told_once_and_marks_alone_are_not_missed() -> None:
    lines = lines_of(SpeechScript(str.isascii), TEXT)
    said = [line.text for line in lines if isinstance(line, SpokenLine)]
    assert said == ["Use this one, please do:", CODE_NOTICE, "Or that one:"]
    skipped = [(TEXT[line.start : line.end], line.reason) for line in lines if isinstance(line, Skipped)]
    assert skipped == [("```\nx\n```", "code"), ("```\ny\n```", "code"), ("会议在九点。", "unspeakable")]


def test_a_line_knows_its_place_in_the_text() -> None:
    first, _, notice, *_ = lines_of(SpeechScript(str.isascii), TEXT)
    assert isinstance(first, SpokenLine)
    assert TEXT[first.start : first.end] == "Use **this** one, please do:"
    assert isinstance(notice, SpokenLine)
    assert notice.start == notice.end == TEXT.index("```\n\nOr") + 3


def test_code_need_not_be_told() -> None:
    lines = lines_of(SpeechScript(str.isascii, code_notice=""), TEXT)
    assert CODE_NOTICE not in [line.text for line in lines if isinstance(line, SpokenLine)]


def test_a_hurried_script_says_what_there_is() -> None:
    script = SpeechScript(lambda words: True)
    assert script.feed("The quick _brown_ fox and the slow white dog went into the forest to") == []
    (line,) = script.hurry()
    assert isinstance(line, SpokenLine)
    assert line.text == "The quick brown fox and the slow white dog went into the forest"
