"""Each address has only so many connections, for as long as they live."""

import asyncio

from gateway.serving.addresses import AddressCounts


class Link(asyncio.Transport):
    """A transport that can be told to close."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = False

    def is_closing(self) -> bool:
        return self.is_over


def test_an_address_has_its_number_and_others_theirs() -> None:
    counts, links = AddressCounts(2), [Link() for _ in range(5)]
    assert [counts.admits("a", link) for link in links[:3]] == [True, True, False]
    assert counts.admits("b", links[3])
    links[0].is_over = True
    assert counts.admits("a", links[2]), "one is closing"
    assert not counts.admits("a", links[4])


def test_a_connection_that_is_gone_counts_no_more_and_leaves_nothing_behind() -> None:
    counts = AddressCounts(1)
    for number in range(100):
        link = Link()
        assert counts.admits(f"a{number % 3}", link)
        del link
    assert len(counts) == 0


def test_a_trusted_proxy_may_have_any_number() -> None:
    counts, links = AddressCounts(1, {"proxy"}), [Link() for _ in range(9)]
    assert all(counts.admits("proxy", link) for link in links)
    assert len(counts) == 0
