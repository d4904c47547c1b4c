"""A struct's declaration decides how an environment is read, and what is permitted and refused in it."""

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from gateway.environment import Notation, Variable, prefixed, read, read_list, refuse_unknown, variables
from gateway.errors import ConfigurationError


class Inner(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_LIMIT_")):
    runs: Annotated[int, Meta(ge=1, description="how many")] = 2


class Outer(Struct, frozen=True, kw_only=True, rename=prefixed("TRILANE_")):
    ping_s: Annotated[float, Meta(ge=0.5, le=60, description="when")] = 15.0
    log: Annotated[str, Meta(description="where")] = "here"
    folder: Annotated[Path, Meta(description="in what")] = Path("f")
    names: Annotated[list[str], Notation("names", read_list), Meta(description="who")] = []
    inner: Inner = Inner()


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        read(Outer, environ)
    return error.value.detail


def test_nothing_set_is_the_defaults() -> None:
    assert read(Outer, {}) == Outer()
    assert read(Outer, dict.fromkeys(["TRILANE_PING_S", "TRILANE_LOG", "TRILANE_FOLDER"], " ")) == Outer()


def test_every_type_is_read_from_its_text() -> None:
    environ = {
        "TRILANE_PING_S": " 7 ",
        "TRILANE_LOG": "there",
        "TRILANE_FOLDER": "/g",
        "TRILANE_NAMES": "a, ,b",
        "TRILANE_LIMIT_RUNS": "1e3",
    }
    outer = read(Outer, environ)
    assert outer == Outer(ping_s=7.0, log="there", folder=Path("/g"), names=["a", "b"], inner=Inner(runs=1000))
    assert (type(outer.ping_s), type(outer.inner.runs)) == (float, int)


@pytest.mark.parametrize("text", ["0.4", "60.1", "0", "-1", "-1e300", "-inf", "nan", "x"])
def test_a_bad_number_is_refused_with_its_range(text: str) -> None:
    assert refusal(TRILANE_PING_S=text) == f"TRILANE_PING_S={text!r} is not a number from 0.5 to 60"


@pytest.mark.parametrize("text", ["0.5", "60", "59.9"])
def test_the_ends_of_a_range_are_permitted(text: str) -> None:
    assert read(Outer, {"TRILANE_PING_S": text}).ping_s == float(text)


@pytest.mark.parametrize("text", ["0", "1.5", "-2"])
def test_a_number_without_an_upper_end_is_refused_with_its_lower_one(text: str) -> None:
    assert refusal(TRILANE_LIMIT_RUNS=text) == f"TRILANE_LIMIT_RUNS={text!r} is not a whole number of 1 or more"


@pytest.mark.parametrize("text", ["1e15", "inf", "1e300"])
def test_a_number_that_is_not_exact_any_more_is_too_large(text: str) -> None:
    assert refusal(TRILANE_LIMIT_RUNS=text) == f"TRILANE_LIMIT_RUNS={text!r} is too large: want less than 1e+15"


def test_the_largest_number_is_exact() -> None:
    assert read(Outer, {"TRILANE_LIMIT_RUNS": str(10**15 - 1)}).inner.runs == 10**15 - 1


def test_every_variable_is_listed_as_it_is_declared() -> None:
    assert list(variables(Outer)) == [
        Variable("TRILANE_PING_S", "number from 0.5 to 60", 15.0, "when"),
        Variable("TRILANE_LOG", "text", "here", "where"),
        Variable("TRILANE_FOLDER", "path", Path("f"), "in what"),
        Variable("TRILANE_NAMES", "names", [], "who"),
        Variable("TRILANE_LIMIT_RUNS", "whole number of 1 or more", 2, "how many"),
    ]


@pytest.mark.parametrize("variable", ["TRILANE_PING", "TRILANE_ping_s", "TRILANE_PNIG_S"])
def test_a_misspelt_variable_is_refused_with_the_nearest(variable: str) -> None:
    names = [variable.name for variable in variables(Outer)]
    with pytest.raises(ConfigurationError) as error:
        refuse_unknown({variable: "secret"}, names)
    assert error.value.detail == f"unknown setting {variable}: did you mean TRILANE_PING_S?"


def test_known_variables_and_those_of_others_are_let_be() -> None:
    refuse_unknown({"TRILANE_LOG": "", "TRILANES": "", "OPENAI_KEY": "", "PATH": ""}, ["TRILANE_LOG", "OPENAI_API_KEY"])
