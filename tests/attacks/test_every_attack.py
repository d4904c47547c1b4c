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
    "slow-loris, flood of connections": (
        "attacks/test_slow_clients.py::test_slow_loris_on_headers_bodies_and_frames_and_a_flood_of_connections"
    ),
    "descriptors run out": "gateway/serving/test_arrivals.py::test_the_last_descriptors_are_not_for_clients",
    "frames of one byte": (
        "faults/test_socket_floods.py::test_a_client_that_floods_is_told_and_cut_and_others_are_served"
    ),
    "segments of one byte": "faults/test_socket_floods.py::test_a_client_that_floods_in_tiny_segments_holds_nobody_up",
    "algorithm confusion, none, kid": "attacks/test_tokens.py::test_algorithm_confusion_none_and_kid",
    "oversized everything": "attacks/test_oversized.py::test_oversized_everything",
    "request smuggling": (
        "attacks/test_smuggling.py::test_request_smuggling_ends_the_connection_before_the_hidden_request"
    ),
    "pipelining over a stream": "attacks/test_smuggling.py::test_pipelining_over_a_stream_waits_for_its_end",
    "path tricks": "attacks/test_paths_and_hosts.py::test_no_spelling_of_a_path_needs_less_than_its_plain_one",
    "Host and rebinding": "attacks/test_paths_and_hosts.py::test_a_name_that_was_rebound_to_this_machine_opens_nothing",
    "rebinding without sign-in": "gateway/access/test_hosts.py::test_no_route_answers_a_page_whose_name_was_rebound",
    "server-side request forgery": "faults/test_fetches.py::test_a_chat_takes_no_such_picture_and_goes_on",
    "script injection": "e2e/test_page.py::test_hostile_text_stays_text",
    "framing, foreign scripts": "e2e/test_page_policy.py::test_what_is_not_of_the_page_is_stopped",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_has_its_test(attack: str) -> None:
    file, _, name = ATTACKS[attack].partition("::")
    tree = ast.parse((TESTS / file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in functions or not name
