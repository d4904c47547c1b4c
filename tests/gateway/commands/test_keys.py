"""`trilane keys` makes keys that a gateway takes, shows all but the keys, and ends them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.settings import load


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"TRILANE_DATA_DIR": str(tmp_path), "TRILANE_SIGN_IN": "required"}


def keys(env: dict[str, str], *args: str) -> Result:
    """Runs the command in this process, with nothing of ours in its environment but `env`."""
    others = dict.fromkeys(("TRILANE_LOG", "TRILANE_API_KEYS", "TRILANE_JWT_SECRET"))
    return CliRunner().invoke(main, ["keys", *args], env={**others, **env})


def listed(env: dict[str, str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in keys(env, "list", "--json").stdout.splitlines()]


def test_a_key_is_the_only_line_of_its_output(env: dict[str, str]) -> None:
    result = keys(env, "add", "--sub", "alice")
    assert result.exit_code == 0
    assert result.stdout.startswith("tl_")
    assert len(result.stdout) == 47
    [row] = listed(env)
    assert str(row["id"]) in result.stderr
    assert result.stdout.strip() not in result.stderr + str(row)


def test_its_grants_are_those_of_its_options(env: dict[str, str]) -> None:
    options = ["--subscribe", "team/*", "--subscribe", "a", "--publish", "b", "--no-audio", "--operator"]
    options += ["--limit", "runs=5", "--limit", "monthly_cost=1.5"]
    keys(env, "add", "--sub", "alice", "--name", "the app", "--ttl", "30d", *options)
    keys(env, "add", "--sub", "bob")
    alices, bobs = listed(env)
    assert alices["grants"]["limits"] == {"runs": 5, "monthly_cost": 1.5}
    grants = {"subscribe": ["team/*", "a"], "publish": ["b"], "chat": True, "audio": False, "operator": True}
    assert {name: value for name, value in alices["grants"].items() if name in grants} == grants
    assert (alices["sub"], alices["name"]) == ("alice", "the app")
    assert alices["expires_at"] - alices["created_at"] == pytest.approx(30 * 86_400, abs=5)
    assert bobs["grants"]["subscribe"] == bobs["grants"]["publish"] == ["*"]
    assert "digest" not in alices


def test_a_table_has_a_line_for_each_key(env: dict[str, str]) -> None:
    keys(env, "add", "--sub", "alice", "--subscribe", "team/*", "--name", "line\nbreak \x1b[31m")
    key_id = listed(env)[0]["id"]
    head, row = keys(env, "list").stdout.splitlines()
    assert head.split() == ["id", "user", "name", "grants", "created", "expires", "last", "used", "revoked"]
    assert row.startswith(f"{key_id}  alice")
    assert "reads team/*, writes -" in row
    assert "\x1b" not in row


def test_a_key_is_revoked_by_its_id(env: dict[str, str]) -> None:
    keys(env, "add", "--sub", "alice")
    keys(env, "add", "--sub", "bob")
    first, second = listed(env)
    assert (first["revoked_at"], second["revoked_at"]) == (None, None)
    assert keys(env, "revoke", str(first["id"])).exit_code == 0
    first, second = listed(env)
    assert first["revoked_at"] is not None
    assert second["revoked_at"] is None


def test_what_cannot_be_done_is_said(env: dict[str, str]) -> None:
    for args, says in {
        ("revoke", "nonsense"): "no key with the id 'nonsense'",
        ("add", "--sub", ""): "cannot have a key",
        ("add", "--sub", "a\nb"): "cannot have a key",
        ("add", "--sub", "a", "--subscribe", "team*"): "is not valid",
        ("add", "--sub", "a", "--ttl", "soon"): "is not a time",
        ("add", "--sub", "a", "--limit", "runns=5"): "--limit takes name=number, of requests_per_minute",
        ("add", "--sub", "a", "--limit", "runs"): "--limit takes",
        ("add", "--sub", "a", "--limit", "runs=-1"): "--limit takes",
        ("add", "--sub", "a", "--limit", "runs=1.5"): "--limit takes",
    }.items():
        result = keys(env, *args)
        assert result.exit_code != 0
        assert says in result.output
    assert listed(env) == []
    result = keys({**env, "TRILANE_LOG": "memory:"}, "add", "--sub", "a")
    assert "memory of one process" in result.output


def test_where_nobody_has_to_sign_in_it_says_that_keys_are_not_asked_for(env: dict[str, str]) -> None:
    assert "TRILANE_SIGN_IN" not in keys(env, "add", "--sub", "a").stderr
    del env["TRILANE_SIGN_IN"]
    assert "TRILANE_SIGN_IN=required" in keys(env, "add", "--sub", "a").stderr
    assert not load(env).requires_sign_in
