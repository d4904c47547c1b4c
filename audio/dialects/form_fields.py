"""The fields of a form that comes with a file, checked: a bad value is refused by field, value and what it may be."""

import contextlib
from collections.abc import Mapping
from typing import TypeVar, cast, get_args

from audio.languages import code_of
from audio.model.models import Models
from audio.text_forms import Numerals, Secret, TextForms
from gateway.errors import BadRequest

ChoiceT = TypeVar("ChoiceT", bound=str)


class FormFields:
    """The fields of a form. Names with brackets may come without, and an empty value is one that was left out."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        self._fields = fields

    def last(self, name: str) -> str:
        """Returns the last value of a field."""
        return self._fields.get(name, [""])[-1]

    def choice(self, name: str, allowed: tuple[ChoiceT, ...], default: ChoiceT) -> ChoiceT:
        value = self.last(name).strip() or default
        if value not in allowed:
            raise bad_value(name, value, f"want one of {', '.join(allowed)}")
        return cast(ChoiceT, value)

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        values = self.all(name)
        for value in values:
            if value not in allowed:
                raise bad_value(f"{name}[]", value, f"want {' or '.join(allowed)}")
        return values

    def check_number(self, name: str, low: float, high: float) -> None:
        value = self.last(name).strip()
        number = float("nan")
        with contextlib.suppress(ValueError):
            number = float(value or low)
        if not low <= number <= high:
            raise bad_value(name, value, f"want a number from {low:g} to {high:g}")

    def all(self, name: str) -> list[str]:
        """Returns the values of a list, whose name may have brackets; empty ones were left out."""
        return [value.strip() for key in (name, f"{name}[]") for value in self._fields.get(key, []) if value.strip()]

    def language(self, models: Models) -> str | None:
        """Returns the code of the language that was named, be it in `language` or alone in `languages[]`."""
        several = self.all("languages")
        if len(several) > 1:
            raise bad_value("languages[]", ", ".join(several), "want one, or none to have it detected")
        code = code_of(self.last("language")) or next(iter(map(code_of, several)), None)
        try:
            models.check_language(code)
        except BadRequest as err:
            raise BadRequest(err.detail, code="invalid_value", extra=err.extra) from err
        return code

    def keywords(self, max_length: int) -> list[str]:
        """Returns the keywords, which may have so many characters together."""
        keywords = self.all("keywords")
        if keywords and len(text := ", ".join(keywords)) > max_length:
            raise bad_value(
                "keywords[]", text, f"they have {len(text)} characters; beside the prompt {max_length} are read"
            )
        return keywords

    def text_forms(self) -> TextForms | None:
        """Returns the forms of text that are asked for; None where it is to be as it is heard."""
        redact = self.choices("redact", get_args(Secret))
        forms = TextForms(
            numerals=self.choice("numerals", get_args(Numerals), "as-heard"),
            masks_profanity=self.choice("profanity", ("mask", ""), "") == "mask",
            redact=tuple(cast(list[Secret], redact)),
        )
        return forms if forms != TextForms() else None


def bad_value(name: str, value: str, wish: str) -> BadRequest:
    return BadRequest(f"{name}={value[:80]!r}: {wish}", code="invalid_value", extra={"param": name})
