"""The file of upstreams names servers of tools and what each tool may do; a mistake in it names its place."""

from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import load
from gateway.tool_settings import ToolSettings
from tests.support.readme import readme_block

SERVERS = """
[[mcp]]
name = "crm"
url = "https://crm.example/mcp"
api_key_env = "CRM_KEY"
headers = { "x-team" = "a", "x-token" = "$TOKEN" }
[mcp.tools.find]
approve = "auto"
effect = "read"
timeout_s = 5
[mcp.tools."refund.all"]
roles = ["owner"]
editable = true

[[mcp]]
name = "my_files"
command = ["uvx", "files-mcp"]
env = ["FILES_TOKEN"]
timeout_s = 600
"""
SECRETS = {"CRM_KEY": "k\n", "TOKEN": "t", "FILES_TOKEN": "f", "OPENAI_API_KEY": "sk"}


def environment(tmp_path: Path, text: str, **env: str) -> dict[str, str]:
    path = tmp_path / "upstreams.toml"
    path.write_text(text)
    return {"TRILANE_UPSTREAMS": str(path), **env}


def refusal(tmp_path: Path, text: str, **env: str) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(environment(tmp_path, text, **env))
    return error.value.detail


def test_a_file_names_servers_and_what_their_tools_may_do(tmp_path: Path) -> None:
    crm, files = load(environment(tmp_path, SERVERS, **SECRETS)).tools.mcp
    assert (crm.name, crm.url, crm.command, crm.timeout_s) == ("crm", "https://crm.example/mcp", [], 60)
    assert crm.headers == {"x-team": "a", "x-token": "t", "authorization": "Bearer k"}
    assert list(crm.tools) == ["find", "refund.all"]
    assert crm.tools["find"] == ToolSettings(approve="auto", effect="read", timeout_s=5)
    assert crm.tools["refund.all"] == ToolSettings(roles=("owner",), editable=True)
    assert (files.command, files.timeout_s, files.tools) == (["uvx", "files-mcp"], 600, {})


def test_a_listed_tool_asks_and_is_called_once_unless_the_file_says_otherwise() -> None:
    tool = ToolSettings()
    assert (tool.approve, tool.effect, tool.roles, tool.editable) == ("ask", None, ("owner", "approver"), False)


def test_a_program_gets_what_is_named_and_what_all_programs_need(tmp_path: Path) -> None:
    inherited = {"PATH": "/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    proxies = {"HTTPS_PROXY": "http://u:p@proxy", "TRILANE_API_KEYS": "alice:0123456789abcdef"}
    _, files = load(environment(tmp_path, SERVERS, **SECRETS, **inherited, **proxies)).tools.mcp
    assert files.env == {**inherited, "FILES_TOKEN": "f"}


def test_a_file_of_tools_alone_keeps_the_default_upstream(tmp_path: Path) -> None:
    settings = load(environment(tmp_path, SERVERS, **SECRETS))
    assert [upstream.name for upstream in settings.upstreams] == ["openai"]
    assert load({}).tools.mcp == []


def test_the_readmes_servers_are_those_of_the_gateway(tmp_path: Path) -> None:
    text = readme_block('name = "crm"').text
    crm, files = load(environment(tmp_path, text, CRM_KEY="k", FILES_TOKEN="f", PATH="/bin")).tools.mcp
    assert crm.tools == {"find": ToolSettings(approve="auto", effect="read"), "refund": ToolSettings()}
    assert (files.command[0], files.env) == ("uvx", {"FILES_TOKEN": "f", "PATH": "/bin"})


SERVER = "[[mcp]]\nname = 'a'\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SERVER, "[[mcp]] 'a': want `url` or `command`, one of them"),
        (f"{SERVER}url = 'http://a'\ncommand = ['b']", "[[mcp]] 'a': want `url` or `command`, one of them"),
        (f"{SERVER}url = 'a.example/mcp'", "[[mcp]] 'a': its `url` is no address"),
        (f"{SERVER}url = 'http://a:x/'", "[[mcp]] 'a': its `url` is no address"),
        (f"{SERVER}url = 'file:///a'", "[[mcp]] 'a': its `url` is no address"),
        (f"{SERVER}command = 'uvx'", "$[0].command"),
        (f"{SERVER}command = ['']", "`command` is the program"),
        (f"{SERVER}command = ['b']\nheaders = {{ a = 'b' }}", "takes no headers"),
        (f"{SERVER}command = ['b']\nenv = ['NOT_THERE']", "[[mcp]] 'a' needs $NOT_THERE, which is not set"),
        (f"{SERVER}command = ['b']\nenv = 'PATH'", "`env` of [[mcp]] 'a' is no list"),
        (f"{SERVER}url = 'http://a'\napi_key_env = 'NOT_THERE'", "[[mcp]] 'a' needs $NOT_THERE"),
        (f"{SERVER}url = 'http://a'\nheaders = {{ 'a b' = 'c' }}", "'a b' or its value can be no header"),
        (f"{SERVER}url = 'http://a'\ntimeout_s = 0", "$[0].timeout_s"),
        (f"{SERVER}url = 'http://a'\nuri = 'x'", "uri"),
        (f"{SERVER}url = 'http://a'\n[mcp.tools.find]\napprove = 'yes'", "$[0].tools[...].approve"),
        (f"{SERVER}url = 'http://a'\n[mcp.tools.find]\neffect = 'write'", "effect"),
        (f"{SERVER}url = 'http://a'\n[mcp.tools.find]\nroles = ['viewer']", "roles"),
        (f"{SERVER}url = 'http://a'\n[mcp.tools.find]\nroles = []", "roles"),
        (f"{SERVER}url = 'http://a'\n{SERVER}url = 'http://b'", "two [[mcp]] have the name 'a'"),
        ("[mcp]\nname = 'a'", "no list of tables: want [[mcp]]"),
        ("[[mcp]]\nurl = 'http://a'", "name"),
        *(
            (f"[[mcp]]\nname = '{name}'\nurl = 'http://a'", "$[0].name")
            for name in ("a__b", "a_", "_a", "a.b", "", "ä")
        ),
        (f"[[mcp]]\nname = '{'a' * 33}'\nurl = 'http://a'", "$[0].name"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_by_its_place(tmp_path: Path, text: str, reason: str) -> None:
    detail = refusal(tmp_path, text)
    assert reason in detail
    assert "upstreams.toml" in detail
