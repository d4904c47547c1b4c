"""Upstreams and the way to them, as the environment and an operator's file name them."""

from pathlib import Path

import pytest

from gateway.settings import load
from gateway.upstream_settings import Network
from tests.gateway.test_settings import refusal
from tests.support.readme import readme_block


def test_without_a_key_or_an_address_there_is_no_upstream() -> None:
    assert load({"TRILANE_MODEL": "m"}).upstreams == []


def test_a_key_alone_is_for_openai() -> None:
    [upstream] = load({"OPENAI_API_KEY": "sk"}).upstreams
    assert (upstream.name, upstream.base_url, upstream.api_key) == ("openai", "https://api.openai.com/v1", "sk")
    assert upstream.model


def test_an_address_needs_no_key() -> None:
    [upstream] = load({"OPENAI_BASE_URL": "http://localhost:11434/v1", "TRILANE_MODEL": "m"}).upstreams
    assert (upstream.base_url, upstream.api_key, upstream.model) == ("http://localhost:11434/v1", "", "m")


FILE = """
[[upstream]]
name = "one"
base_url = "http://one/v1"
api_key_env = "ONE_KEY"
models = ["a", "b"]
first_token_s = 5
max_concurrency = 3

[[upstream]]
name = "two"
base_url = "http://two/v1"
api_key = "literal"
"""


def upstreams(tmp_path: Path, text: str | bytes, **env: str) -> dict[str, str]:
    """Returns an environment with this file of upstreams."""
    path = tmp_path / "upstreams.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return {"TRILANE_UPSTREAMS": str(path), **env}


def test_headers_and_keys_are_read_from_the_environment_without_their_line_ends(tmp_path: Path) -> None:
    text = """[[upstream]]
name = "one"
base_url = "https://one/v1"
api_key_env = "KEY"
headers = {"x-team" = "a", "x-token" = "$TOKEN"}
ca = "ca.pem"
client_certificate = "/etc/client.pem"
"""
    [one] = load(upstreams(tmp_path, text, KEY="k\n", TOKEN=" t\n")).upstreams
    assert (one.api_key, one.headers) == ("k", {"x-team": "a", "x-token": "t"})
    assert (one.ca, one.client_certificate, one.client_key) == (str(tmp_path / "ca.pem"), "/etc/client.pem", "")
    assert "$TOKEN, which is not set" in refusal(**upstreams(tmp_path, text, KEY="k"))
    assert load({"OPENAI_API_KEY": "sk\n"}).upstreams[0].api_key == "sk"


@pytest.mark.parametrize("name", Network.__struct_fields__)
def test_the_way_out_is_read_from_the_variables_of_other_programs(name: str) -> None:
    assert load({name.upper(): " x "}).network == Network(**{name: "x"})
    if name.endswith("proxy"):
        assert load({name.upper(): "upper", name: "lower"}).network == Network(**{name: "lower"})
        assert load({name.upper(): "upper", name: ""}).network == Network()


def test_the_readmes_agent_is_one(tmp_path: Path) -> None:
    [agent] = load(upstreams(tmp_path, readme_block('kind = "ag-ui"').text)).upstreams
    assert (agent.name, agent.kind, agent.between_tokens_s) == ("support", "ag-ui", 120)


def test_a_kind_that_nobody_speaks_is_refused(tmp_path: Path) -> None:
    text = '[[upstream]]\nname = "one"\nbase_url = "http://one"\nkind = "a2a"\n'
    assert "a2a" in refusal(**upstreams(tmp_path, text))


PYTHON = '[[upstream]]\nname = "one"\nkind = "python"\n'


def test_a_python_agent_has_the_environment_that_it_names_and_an_interpreter_beside_the_file(tmp_path: Path) -> None:
    more = 'function = "shop.agents:support"\nagent_python = ".venv/bin/python"\nenv = ["SHOP_KEY"]\n'
    given = {"SHOP_KEY": "k", "PATH": "/bin", "PYTHONPATH": "/code", "TRILANE_JWT_SECRET": "s" * 32}
    [one] = load(upstreams(tmp_path, PYTHON + more, **given)).upstreams
    assert one.env == {"SHOP_KEY": "k", "PATH": "/bin", "PYTHONPATH": "/code"}
    assert one.agent_python == str(tmp_path / ".venv/bin/python")
    assert "$SHOP_KEY" in refusal(**upstreams(tmp_path, PYTHON + more))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PYTHON, "want `module:function`"),
        (PYTHON + 'function = "shop.agents"', "want `module:function`"),
        (PYTHON + 'function = "a:b"\nbase_url = "http://one"', "has no `base_url`"),
        (PYTHON.replace("python", "worker") + 'base_url = "http://one"', "has no `base_url`"),
        (PYTHON.replace("python", "worker") + 'function = "a:b"', "are for `kind"),
        (PYTHON.replace("python", "ag-ui"), "needs a `base_url`"),
    ],
)
def test_an_agent_has_what_its_kind_needs_and_nothing_else(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(**upstreams(tmp_path, text))


def test_two_agents_have_two_names(tmp_path: Path) -> None:
    file = upstreams(tmp_path, PYTHON + 'function = "a:b"')
    assert "'one'" in refusal(**file, TRILANE_AGENTS="one=c:d")
    assert "want NAME=MODULE:FUNCTION" in refusal(TRILANE_AGENTS="one")
    assert [one.name for one in load({**file, "TRILANE_AGENTS": "two=c:d"}).all_upstreams] == ["one", "two"]


def test_a_file_names_upstreams_in_order(tmp_path: Path) -> None:
    one, two = load(upstreams(tmp_path, FILE, ONE_KEY="k1")).upstreams
    assert (one.name, one.api_key, one.models, one.first_token_s) == ("one", "k1", ["a", "b"], 5)
    assert (one.max_concurrency, one.between_tokens_s, one.model) == (3, None, "")
    assert (two.name, two.api_key, two.max_concurrency) == ("two", "literal", 2000)


def test_a_file_comes_before_the_openai_variables(tmp_path: Path) -> None:
    settings = load(upstreams(tmp_path, FILE, ONE_KEY="k1", OPENAI_API_KEY="sk", OPENAI_BASE_URL="http://x"))
    assert [upstream.name for upstream in settings.upstreams] == ["one", "two"]


def test_a_key_that_is_not_in_the_environment_is_asked_for(tmp_path: Path) -> None:
    assert "$ONE_KEY" in refusal(**upstreams(tmp_path, FILE))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no [[upstream]]"),
        ("[[upstreams]]\nname='a'", "names no [[upstream]]"),
        ("[[upstream]\n", "TRILANE_UPSTREAMS="),
        ("[[upstream]]\nname = 'a'", "base_url"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nurl = 'x'", "url"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nmodels = 'm'", "models"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nmax_concurrency = 'many'", "max_concurrency"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nmax_concurrency = 0", "`int` >= 1 - at `$[0].max_concurrency`"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nfirst_token_s = 0", "`float` >= 0.01 - at `$[0].first_token_s`"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nbetween_tokens_s = -1", "between_tokens_s"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\n" * 2, "line 4: upstream 'a': two upstreams have the same name"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nweight = 0", "line 4: [[upstream]] 'a' Expected `float` >= 0.01"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nretries = 6", "`int` <= 5 - at `$[0].retries`"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\naliases = {x = 1}", "aliases"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nmodels = ['m']\naliases = {m = 'n'}", "'m' is one of its"),
        ("[[upstream]]\nname = 'a'\nbase_url = 'u'\nkind = 'ag-ui'\naliases = {m = 'n'}", "it has no `aliases`"),
        ("[[upstream]]\nname = 'a'\nkind = 'worker'\nweight = 1", "not for a 'worker' agent"),
        ("upstream = 'x'", "TRILANE_UPSTREAMS="),
        (b"\xff\xfe", "TRILANE_UPSTREAMS="),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    detail = refusal(**upstreams(tmp_path, text))
    assert reason in detail
    assert "upstreams.toml" in detail


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere.toml" in refusal(TRILANE_UPSTREAMS=str(tmp_path / "nowhere.toml"))


TWO = """# ours
[[upstream]]
name = "one"
base_url = "http://one"

[[price]]
model = "m*"
input = 1

[[ upstream ]] # the other
name = "two"
base_url = "http://two"
headers = { a = "b" }
%s

[[mcp]]
name = "tools"
command = ["x"]
[mcp.tools.find]
approve = "ask"
"""


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ("weight = 'much'", "line 14: [[upstream]] 'two' "),
        ("max_concurrency = 0", "line 14: [[upstream]] 'two' "),
        ("headers.c = 3", "line 14"),
        ("wieght = 3", "line 14: [[upstream]] 'two' Object contains unknown field `wieght`"),
        ("aliases = 3", "line 14: [[upstream]] 'two' "),
        ("api_key_env = 'NOT_SET'", "line 10: upstream 'two' needs $NOT_SET"),
        ("kind = 'python'", "line 10: upstream 'two'"),
        ("[[upstream]]\nbase_url = 'x'", "line 14: [[upstream]] Object missing required field `name`"),
        ("[[price]]\nmodel = 'n'\ninput = 'x'", "line 16: [[price]] 'n' "),
        ("[[mcp]]\nname = 'x'\nurl = 3", "line 16: [[mcp]] 'x' "),
    ],
)
def test_an_error_names_the_line_and_whose_it_is(tmp_path: Path, wrong: str, place: str) -> None:
    assert place in refusal(**upstreams(tmp_path, TWO % wrong))


def test_what_is_written_in_another_way_has_an_error_without_a_line(tmp_path: Path) -> None:
    detail = refusal(**upstreams(tmp_path, "upstream = [{name = 'one', base_url = 3}]"))
    assert "[[upstream]] 'one' Expected `str`" in detail
    assert "line" not in detail
