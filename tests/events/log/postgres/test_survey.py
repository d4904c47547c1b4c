"""A PostgreSQL server is asked what it keeps, as it is set up for the user of the log."""

import pytest

from events.log.port import StorageFact
from events.log.postgres.survey import NAMES, facts_of, survey
from gateway.errors import ConfigurationError
from loadtests.ports import closed_port
from tests.contract.engines import scenario
from tests.support.postgres_server import USER, PostgresServer

WELL = dict(zip(NAMES, ("16.4", "160004", "on", "on", "on", ""), strict=True))


def facts(*, standbys: int = 0, is_standby: bool = False, is_pooled: bool = False, **changes: str) -> list[StorageFact]:
    values = list((WELL | changes).values())
    return facts_of(values, standbys=standbys, is_standby=is_standby, is_pooled=is_pooled)


def test_a_server_that_keeps_all_needs_no_advice() -> None:
    told = facts(standbys=2, synchronous_standby_names="ANY 1 (b, c)")
    assert [fact.text for fact in told if not fact.advice] == [
        "PostgreSQL 16.4",
        "it waits for its disk (fsync)",
        "a commit is on its disk when it is acknowledged, and waits for a standby (ANY 1 (b, c)); 2 standbys",
    ]


@pytest.mark.parametrize(
    ("told", "fault", "advice", "is_loss"),
    [
        (facts(server_version="13.9", server_version_num="130009"), "PostgreSQL 13.9", "14 or later", True),
        (facts(fsync="off"), "fsync is off", "`fsync = on`", True),
        (facts(full_page_writes="off"), "full_page_writes is off", "`full_page_writes = on`", True),
        (facts(synchronous_commit="off"), "synchronous_commit is off", "ALTER ROLE", False),
        (facts(is_standby=True), "a standby", "primary", True),
        (facts(is_pooled=True), "a pooler", "the server itself", False),
    ],
)
def test_what_a_server_does_not_keep_is_told_with_what_to_set(
    told: list[StorageFact], fault: str, advice: str, is_loss: bool
) -> None:
    (fact,) = [fact for fact in told if fact.advice]
    assert fault in fact.text
    assert advice in fact.advice
    assert fact.is_loss is is_loss


@scenario
async def test_a_real_server_tells_the_settings_of_the_logs_own_user(postgres_server: PostgresServer) -> None:
    def lax() -> list[str]:
        return [fact.text for fact in told if fact.advice]

    told = await survey(postgres_server.url())
    assert [text.split(":")[0] for text in lax()] == ["fsync is off"]  # the server of the tests waits for no disk
    postgres_server.query(f"ALTER ROLE {USER} SET synchronous_commit = off")
    try:
        told = await survey(postgres_server.url())
        assert "synchronous_commit is off for this user" in lax()[-1]
    finally:
        postgres_server.query(f"ALTER ROLE {USER} RESET synchronous_commit")


@scenario
async def test_a_server_that_is_away_is_told_without_its_password() -> None:
    with closed_port() as held, pytest.raises(ConfigurationError, match="cannot be used") as refusal:
        await survey(f"postgres://u:secret@127.0.0.1:{held.getsockname()[1]}/d")
    assert "secret" not in refusal.value.detail
