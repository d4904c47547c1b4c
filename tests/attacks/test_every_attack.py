"""Every attack that the gateway was built to withstand has a test of its name, here or beside what withstands it."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ATTACKS = {
    "cross-site WebSocket hijack": "attacks/test_hijack_and_tickets.py::test_cross_site_websocket_hijack",
    "ticket replay at two processes": "attacks/test_hijack_and_tickets.py::test_ticket_replay_at_two_processes_at_once",
    "another's topic by cursor": (
        "attacks/test_hijack_and_tickets.py::test_a_cursor_of_another_users_topic_reads_nothing_of_it"
    ),
    "another's topic by name": "faults/test_whose_topics.py::test_a_key_reads_its_own_and_no_other_users",
    "SSE field injection": "attacks/test_injection.py::test_sse_field_injection_through_what_is_published",
    "header injection": "attacks/test_injection.py::test_header_injection",
    "log injection": "attacks/test_injection.py::test_log_injection",
    "compression bomb, body": "attacks/test_oversized.py::test_a_compression_bomb_as_a_body_is_not_unpacked",
    "compression bomb, frame": "attacks/test_oversized.py::test_a_compression_bomb_as_a_frame_is_not_unpacked",
    "compression bomb, upstream": "gateway/chat/upstreams/test_codings.py::",
    "compression bomb, sound": "attacks/test_floods_and_bombs.py::test_a_file_that_grows_when_it_is_decoded",
    "compression bomb, upload": "attacks/test_floods_and_bombs.py::test_a_compressed_upload_is_not_unpacked",
    "flood of connections": "attacks/test_floods_and_bombs.py::test_a_flood_of_connections_from_one_address",
    "storm of connections": "attacks/test_floods_and_bombs.py::test_a_storm_of_connections_that_come_and_go",
    "flood of log lines": "attacks/test_injection.py::test_no_client_fills_the_log",
    "slow-loris": (
        "attacks/test_slow_clients.py::test_slow_loris_on_headers_bodies_and_frames_and_a_flood_of_connections"
    ),
    "descriptors run out": "gateway/serving/test_arrivals.py::test_the_last_descriptors_are_not_for_clients",
    "frames of one byte": (
        "faults/test_socket_floods.py::test_a_client_that_floods_is_told_and_cut_and_others_are_served"
    ),
    "segments of one byte": "faults/test_socket_floods.py::test_a_client_that_floods_in_tiny_segments_holds_nobody_up",
    "algorithm confusion, none, kid": "attacks/test_tokens.py::test_algorithm_confusion_none_and_kid",
    "JWKS outage": "attacks/test_key_sets.py::test_jwks_outage",
    "JWKS key swap": "attacks/test_key_sets.py::test_jwks_key_swap",
    "keys that are not the provider's": "attacks/test_key_sets.py::test_a_key_that_is_not_the_providers",
    "work after the credential": "faults/test_work_ends.py::test_a_file_that_is_still_coming",
    "oversized everything": "attacks/test_oversized.py::test_oversized_everything",
    "a body that is too large": (
        "attacks/test_oversized.py::test_a_body_that_says_that_it_is_too_large_is_refused_before_it_comes"
    ),
    "endless extensions and trailers": "attacks/test_smuggling.py::test_what_stands_around_a_body_is_bounded",
    "RTSP and ICE": (
        "attacks/test_smuggling.py::test_a_protocol_that_is_only_like_http_is_refused_wherever_its_name_stands"
    ),
    "request smuggling": (
        "attacks/test_smuggling.py::test_request_smuggling_ends_the_connection_before_the_hidden_request"
    ),
    "pipelining over a stream": "attacks/test_smuggling.py::test_pipelining_over_a_stream_waits_for_its_end",
    "path tricks": "attacks/test_paths_and_hosts.py::test_no_spelling_of_a_path_needs_less_than_its_plain_one",
    "paths that proxies guard": "attacks/test_paths_and_hosts.py::test_every_route_has_one_spelling",
    "a page of another scheme": "gateway/access/test_signin_schemes.py::test_a_page_of_another_scheme_is_another_page",
    "Host and rebinding": "attacks/test_paths_and_hosts.py::test_a_name_that_was_rebound_to_this_machine_opens_nothing",
    "rebinding without sign-in": "gateway/access/test_hosts.py::test_no_route_answers_a_page_whose_name_was_rebound",
    "server-side request forgery": "faults/test_fetches.py::test_a_chat_takes_no_such_picture_and_goes_on",
    "script injection": "e2e/test_page.py::test_hostile_text_stays_text",
    "framing, foreign scripts": "e2e/test_page_policy.py::test_what_is_not_of_the_page_is_stopped",
}
UNWATCHED = {
    "another's topic by name",
    "compression bomb, upstream",
    "descriptors run out",
    "a page of another scheme",
    "rebinding without sign-in",
    "server-side request forgery",
    "script injection",
    "framing, foreign scripts",
    "work after the credential",
}
"""Attacks that keep no server busy, or none of ours: while all others last, somebody else is served in time."""
WATCHES = {"attacker", "Bystander", "check_latencies"}
"""What fails a test in which 1 % of somebody else's answers come late."""


def functions_of(file: Path) -> dict[str, ast.AST]:
    tree = ast.walk(ast.parse(file.read_text()))
    return {node.name: node for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def names_in(function: ast.AST) -> set[str]:
    nodes = list(ast.walk(function))
    return {node.arg for node in nodes if isinstance(node, ast.arg)} | {
        node.id for node in nodes if isinstance(node, ast.Name)
    }


@pytest.mark.parametrize("attack", sorted(ATTACKS.keys() - UNWATCHED))
def test_somebody_else_is_served_in_time_during_an_attack(attack: str) -> None:
    file, _, name = ATTACKS[attack].partition("::")
    functions = functions_of(TESTS / file)
    names = names_in(functions[name])
    fixtures = [names_in(functions[fixture]) for fixture in names & functions.keys()]
    assert WATCHES & names.union(*fixtures)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_has_its_test(attack: str) -> None:
    file, _, name = ATTACKS[attack].partition("::")
    assert name in functions_of(TESTS / file) or not name
