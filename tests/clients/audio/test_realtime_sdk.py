"""OpenAI's Python SDK works unmodified over `/v1/realtime`: turns are found and committed, cut and resumed."""

import asyncio
import base64
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import openai
import pytest
import websockets
from openai.types.websocket_reconnection import ReconnectingEvent, ReconnectingOverrides

from tests.clients.audio.sdk_session import COMPLETED, INTENT, Session, client, session
from tests.clients.audio.voice import KEY, PACE, RATE, errors, speech, transcribing_gateway
from tests.conftest import Gateway, eventually
from tests.faults.cutting_proxy import Cut, CuttingProxy

DELTA = "conversation.item.input_audio_transcription.delta"
COMMITTED = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]
MAX_WRONG = 4
"""Maximum wrong words of 22, by the small model, which hears each phrase by itself: a lost word shows as more."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = transcribing_gateway(tmp_path_factory.mktemp("realtime"))
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def test_turns_are_found_and_transcribed(gateway: Gateway) -> None:
    async def scene() -> None:
        async with session(gateway.url) as caller:
            await caller.speak(speech())
            await caller.wait_settled()
        first = caller.events[0]
        assert first.type == "session.created"
        assert first.session.type == "transcription"
        assert first.session.audio.input.format.rate == RATE
        assert errors(caller.text) <= MAX_WRONG, caller.text
        for start in caller.of("input_audio_buffer.speech_started"):
            check_order([event for event in caller.events if item_of(event) == start.item_id])
        check_chain(caller)
        assert len({event.event_id for event in caller.events}) == len(caller.events)
        assert all(event.usage.type == "duration" and event.usage.seconds > 0 for event in caller.of(COMPLETED))

    asyncio.run(scene())


def test_a_client_that_closes_leaves_nothing_open(gateway: Gateway) -> None:
    async def scene() -> None:
        async with session(gateway.url) as caller:
            await caller.speak(speech()[:RATE])
            eventually(lambda: gateway.gauge("trilane_audio_open_sessions") == 1, what="no other session is left")

    asyncio.run(scene())
    eventually(lambda: gateway.gauge("trilane_audio_open_sessions") == 0, what="the session is over")


def test_a_page_asks_the_audio_unit_itself_for_its_ticket(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = httpx2.post(f"{gateway.url}/api/tickets", json={"route": "/v1/realtime"}, headers=headers)
    url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?intent=transcription"

    async def scene() -> None:
        protocols: list[Any] = ["realtime", f"ticket.{answer.json()['ticket']}"]
        async with websockets.connect(url, subprotocols=protocols) as socket:
            assert socket.subprotocol == "realtime"

    asyncio.run(scene())


def item_of(event: Any) -> str | None:
    return getattr(event, "item_id", None) or getattr(getattr(event, "item", None), "id", None)


def check_order(events: list[Any]) -> None:
    """Checks that one utterance has its documented order, wherever deltas come."""
    kinds = [event.type for event in events if event.type != DELTA]
    start, stop = "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"
    assert kinds == [start, stop, *COMMITTED, COMPLETED]
    assert events[0].type == start
    assert events[-1].type == COMPLETED
    by_kind = {event.type: event for event in events}
    assert by_kind[stop].audio_end_ms > by_kind[start].audio_start_ms


def check_chain(caller: Session) -> None:
    commits = caller.of("input_audio_buffer.committed")
    assert [event.previous_item_id for event in commits] == [None, *(event.item_id for event in commits[:-1])]


def test_deltas_come_while_a_turn_is_spoken_and_are_only_added_to(gateway: Gateway) -> None:
    async def scene() -> None:
        async with session(gateway.url) as caller:
            await caller.update(turn_detection=None)
            await caller.until("session.updated")
            pcm = speech()
            for second in range(0, len(pcm), RATE * 2):
                await caller.speak(pcm[second : second + RATE * 2])
                await asyncio.sleep(0.2)  # a model that is far behind would hear it all at once
            await caller.until(DELTA)
            assert not caller.of(COMMITTED[0])
            await caller.connection.input_audio_buffer.commit()
            completion = await caller.until(COMPLETED)
        assert errors(completion.transcript) <= 1, completion.transcript
        transcript = "".join(event.delta for event in caller.of(DELTA))
        assert errors(transcript) <= MAX_WRONG, transcript
        assert {item_of(event) for event in caller.events} == {None, completion.item_id}, "one item"
        assert not caller.of("input_audio_buffer.speech_started")

    asyncio.run(scene())


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")  # the SDK's own
def test_the_sync_client_commits_by_itself(gateway: Gateway) -> None:
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as sdk,
        sdk.realtime.connect(extra_query=INTENT, model="gpt-4o-transcribe") as connection,
    ):
        first = connection.recv()
        assert first.type == "session.created"
        assert first.session.audio.input.transcription.model == "gpt-4o-transcribe"
        connection.session.update(session={"type": "transcription", "audio": {"input": {"turn_detection": None}}})
        pcm = speech()[: 3 * RATE * 2]
        connection.input_audio_buffer.append(audio=base64.b64encode(bytes(len(pcm))).decode())
        connection.input_audio_buffer.clear()
        connection.input_audio_buffer.append(audio=base64.b64encode(pcm).decode())
        connection.input_audio_buffer.commit()
        for event in connection:
            if event.type == COMPLETED:
                break
        assert "fellow americans" in event.transcript.lower()
        assert event.usage.seconds == pytest.approx(3.0, abs=0.1), "without what was cleared"


def test_a_bad_event_is_an_error_and_the_session_stays_open(gateway: Gateway) -> None:
    async def scene() -> None:
        async with session(gateway.url) as caller:
            await caller.connection.response.create(event_id="mine")
            error = (await caller.until("error")).error
            assert (error.type, error.code, error.event_id) == ("invalid_request_error", "unknown_event", "mine")
            await caller.update(turn_detection=None)
            await caller.connection.input_audio_buffer.commit()
            error = (await caller.until("error", 2)).error
            assert error.code == "input_audio_buffer_commit_empty"
            assert "only has 0.00ms" in error.message
            await caller.connection.send_raw("this is no JSON")
            await caller.until("error", 3)
            await caller.speak(speech()[: 3 * RATE * 2])
            await caller.connection.input_audio_buffer.commit()
            assert "americans" in (await caller.until(COMPLETED)).transcript.lower()

    asyncio.run(scene())


def test_language_and_prompt_are_updated_and_what_is_in_effect_is_told(gateway: Gateway) -> None:
    async def scene() -> None:
        async with session(gateway.url) as caller:
            await caller.update(transcription={"model": "whisper-1", "language": "en", "prompt": "Kennedy, 1961."})
            effective = (await caller.until("session.updated")).session.audio.input
            assert (effective.transcription.language, effective.transcription.prompt) == ("en", "Kennedy, 1961.")
            assert effective.turn_detection.type == "server_vad"
            await caller.update(transcription={"language": "de"})
            error = (await caller.until("error")).error
            assert (error.code, error.param) == ("bad_language", "session.audio.input.transcription.language")
            await caller.update(turn_detection={"type": "semantic_vad", "eagerness": "high"})
            effective = (await caller.until("session.updated", 2)).session.audio.input
            assert (effective.transcription.language, effective.turn_detection.eagerness) == ("en", "high")
            await caller.speak(speech())
            await caller.wait_settled()
        assert errors(caller.text) <= MAX_WRONG, caller.text

    asyncio.run(scene())


def coming_back(sessions: list[Session], codes: list[int]) -> Any:
    """Returns what an application answers to bring the session back."""

    def on_reconnecting(event: ReconnectingEvent) -> ReconnectingOverrides:
        codes.append(event.close_code)
        return {"extra_query": {**INTENT, "session": sessions[0].events[0].session.id}}

    return {"on_reconnecting": on_reconnecting, "initial_delay": 0.1}


def test_a_cut_connection_comes_back_and_every_word_is_there_once(gateway: Gateway) -> None:
    async def scene() -> None:
        sessions: list[Session] = []
        codes: list[int] = []
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(gateway.port))
            caller = await stack.enter_async_context(
                session(f"http://127.0.0.1:{proxy.port}", **coming_back(sessions, codes))
            )
            sessions.append(caller)
            pcm = speech()
            middle = int(6.4 * RATE) * 2  # inside "what your country can do for you"
            await caller.speak(pcm[:middle])
            await asyncio.sleep(0.5)  # all of it has arrived
            port = caller.connection._connection.transport.get_extra_info("sockname")[1]
            proxy.cuts[port] = Cut(0, reset=True)
            await caller.connection.send_raw("{}")  # its answer is cut
            await caller.until("session.created", 2)
            await caller.speak(pcm[middle:])
            await caller.wait_settled()
        assert codes == [1006]
        assert errors(caller.text) <= MAX_WRONG, caller.text
        assert len({event.session.id for event in caller.of("session.created")}) == 1
        items = [event.item_id for event in caller.of("input_audio_buffer.speech_started")]
        assert list(caller.items) == items, "an item that was cut goes on as itself"

    asyncio.run(scene())


def test_a_drain_makes_it_go_on_in_another_process(gateway: Gateway) -> None:
    leaving = Gateway(gateway.folder, gateway.env, unit="audio")

    async def scene() -> None:
        sessions: list[Session] = []
        codes: list[int] = []
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(leaving.port))
            caller = await stack.enter_async_context(
                session(f"http://127.0.0.1:{proxy.port}", **coming_back(sessions, codes))
            )
            sessions.append(caller)
            await caller.update(transcription={"prompt": "A speech."})
            pcm = speech()
            pause = int(5.0 * RATE) * 2
            await caller.speak(pcm[:pause])
            await asyncio.sleep(0.3)
            proxy.target = gateway.port
            leaving.signal(signal.SIGTERM)
            second = await caller.until("session.created", 2)
            assert second.session.audio.input.transcription.prompt == "A speech.", "as it was left"
            assert second.gap["reason"] == "resumed_elsewhere"
            await caller.speak(pcm[pause:])
            await caller.wait_settled()
        assert codes == [1012]
        assert errors(caller.text) <= MAX_WRONG, caller.text

    try:
        leaving.start()
        asyncio.run(scene())
        assert leaving.wait() == 0
    finally:
        leaving.stop()


def test_the_flat_fields_of_the_beta_are_understood(gateway: Gateway) -> None:
    flat: dict[str, Any] = {"input_audio_format": "g711_ulaw", "turn_detection": None}

    async def scene() -> None:
        async with session(gateway.url) as caller:
            await caller.connection.send({"type": "session.update", "session": flat})  # type: ignore[typeddict-item]
            effective = (await caller.until("session.updated")).session.audio.input
            assert (effective.format.type, effective.turn_detection) == ("audio/pcmu", None)
            await caller.connection.send({"type": "transcription_session.update", "session": flat})  # type: ignore[typeddict-item]
            updated = await caller.until("transcription_session.updated")
            assert updated.session["input_audio_format"] == "g711_ulaw"
        async with client(gateway.url) as sdk:
            secret = await sdk.realtime.client_secrets.create(
                session={"type": "transcription"}, extra_body={"session": flat}
            )
        assert secret.session.audio.input.format.type == "audio/pcmu"

    asyncio.run(scene())


OTHER_INTENTS = [{}, {"model": "whisper-1"}, {"intent": "conversation"}, {"intent": "Transcription"}, {"intent": " "}]


@pytest.mark.parametrize("query", OTHER_INTENTS)
def test_another_intent_is_refused_in_words(gateway: Gateway, query: dict[str, str]) -> None:
    async def scene() -> None:
        async with client(gateway.url) as sdk, sdk.realtime.connect(extra_query=query) as connection:
            error = (await connection.recv()).error
            problem = f"intent={query['intent']!r}" if "intent" in query else "`intent` is missing"
            assert error.message.startswith(problem)
            assert "/v1/realtime?intent=transcription" in error.message
            assert error.param == "intent"
            with pytest.raises(websockets.ConnectionClosedError) as closing:
                await connection.recv()
            assert closing.value.rcvd is not None
            assert closing.value.rcvd.code == 4500, "the SDK does not come back"

    asyncio.run(scene())


def test_a_key_for_a_browser_opens_one_session_as_it_was_made_for(gateway: Gateway) -> None:
    async def scene() -> None:
        async with client(gateway.url) as sdk:
            secret = await sdk.realtime.client_secrets.create(
                expires_after={"anchor": "created_at", "seconds": 60},
                session={"type": "transcription", "audio": {"input": {"format": {"type": "audio/pcmu"}}}},
            )
        assert secret.value.startswith("ek_")
        assert secret.session.type == "transcription"
        async with client(gateway.url, secret.value) as browser:
            async with browser.realtime.connect(extra_query=INTENT) as connection:
                first = await connection.recv()
                assert first.session.audio.input.format.type == "audio/pcmu"
            with pytest.raises(websockets.InvalidStatus, match="401"):
                await browser.realtime.connect(extra_query=INTENT).enter()

    asyncio.run(scene())


def test_a_browser_signs_in_by_subprotocol_which_is_not_echoed(gateway: Gateway) -> None:
    async def scene() -> None:
        url = f"ws://127.0.0.1:{gateway.port}/v1/realtime?intent=transcription"
        protocols: list[Any] = ["realtime", f"openai-insecure-api-key.{KEY}"]
        page: Any = f"http://127.0.0.1:{gateway.port}"
        async with websockets.connect(url, subprotocols=protocols, origin=page) as socket:
            assert socket.subprotocol == "realtime"
            assert "session.created" in str(await socket.recv())
        with pytest.raises(websockets.InvalidStatus, match="401"):
            await websockets.connect(url, subprotocols=["realtime", "openai-insecure-api-key.no"])
        elsewhere: Any = "https://elsewhere.example"
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await websockets.connect(url, subprotocols=protocols, origin=elsewhere)

    asyncio.run(scene())


def test_the_pace_of_these_tests_is_within_the_allowance() -> None:
    assert len(speech()) / 2 / RATE * (1 - 1 / PACE) < 60
