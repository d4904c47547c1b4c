"""People write in every script: with input methods, from right to left, and in formulas."""

from typing import Any

import pytest

from tests.e2e.console import Console

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")
expect = sync_api.expect
pytestmark = [pytest.mark.browser, pytest.mark.timeout(60)]

KEY = "(field, key) => field.dispatchEvent(new KeyboardEvent('keydown', {...key, bubbles: true, cancelable: true}))"
CHROMIUMS = {"isComposing": True, "keyCode": 229}
SAFARIS = {"isComposing": False, "keyCode": 229}
"""Safari ends the composition before it sends the key that ended it."""


def press(field: Any, key: str, **how: object) -> None:
    field.evaluate(KEY, {"key": key, **how})


@pytest.mark.parametrize("how", [CHROMIUMS, SAFARIS], ids=["Chromium", "Safari"])
def test_enter_that_chooses_a_character_does_not_send(console: Console, how: dict[str, object]) -> None:
    console.message.fill("日本")
    press(console.message, "Enter", **how)
    expect(console.message).to_have_value("日本")
    expect(console.questions).to_have_count(0)
    press(console.message, "Enter", keyCode=13)
    expect(console.questions).to_have_text("日本")


@pytest.mark.parametrize("how", [CHROMIUMS, SAFARIS], ids=["Chromium", "Safari"])
def test_escape_that_gives_up_a_character_does_not_stop(console: Console, how: dict[str, object]) -> None:
    console.send("T=100 I=20000 B=ok")
    console.wait_for_words(3)
    press(console.message, "Escape", **how)
    console.wait_for_words(10)
    press(console.message, "Escape", keyCode=27)
    expect(console.note).to_have_text("Stopped")


@pytest.mark.parametrize(
    ("text", "direction"),
    [("שלום עולם", "rtl"), ("مرحبا بالعالم", "rtl"), ("hello שלום", "ltr"), ("- سؤال\n- جواب", "rtl")],
)
def test_text_runs_in_the_direction_of_its_script(console: Console, text: str, direction: str) -> None:
    console.send(text)
    console.expect_idle()
    style = "element => getComputedStyle(element).direction"
    assert console.questions.locator(".typed").evaluate(style) == direction
    assert console.answers.locator("p, li").first.evaluate(style) == direction
    assert console.page.locator("nav a, aside a").filter(has_text=text.split()[-1]).first.evaluate(style) == direction
    assert console.page.locator("#title").evaluate(style) == direction


@pytest.mark.parametrize("text", [r"so \(a_1*b*c_2\) is", "so $$a_1*b*c_2$$ is", "so $a_1*b*c_2$ is", "$5 or $6"])
def test_a_formula_is_shown_as_it_was_written(console: Console, text: str) -> None:
    console.send(text)
    console.expect_answer(text)
