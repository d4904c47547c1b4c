"""Responses as the log has them: found by who may, followed, stopped and deleted.

A response is a run that belongs to no chat, and a topic beside it with what was asked. Whoever wants it stopped says so
there, so any process can be asked; the one that writes the run obeys.
"""

import re

import msgspec

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, Block, EventLog, Position, read_to_head
from gateway.access.grants import Principal
from gateway.chat.ending import Aborted
from gateway.chat.records.chat_record import RunFinished, StopCommand, encode_event
from gateway.chat.records.response_record import PREFIX, RESPONSE, StoredResponse, response_topic
from gateway.chat.run import Run
from gateway.chat.topics import run_topic
from gateway.errors import NotFound

_RESPONSE_ID = re.compile(PREFIX + r"([0-9a-f]{20})", re.ASCII)
_ITEM_ID = re.compile(r"[a-z]{1,8}_([0-9a-f]{20})_i?[0-9]{1,6}", re.ASCII)
_json = msgspec.json.Encoder().encode


def run_of_response(response_id: str, param: str | None = None, code: str = "not_found") -> str:
    """Returns the id of a response's run; raises NotFound for what is no response's id."""
    match = _RESPONSE_ID.fullmatch(response_id)
    if match is None:
        raise no_response(response_id, param, code)
    return match[1]


def run_of_item(item_id: str) -> str:
    """Returns the id of the run of the response that an item belongs to; empty for what is no item's id."""
    match = _ITEM_ID.fullmatch(item_id)
    return match[1] if match else ""


def no_response(response_id: str, param: str | None = None, code: str = "not_found") -> NotFound:
    shown = response_id[:64].encode("ascii", "backslashreplace").decode()
    return NotFound(f"there is no response {shown!r}", code=code, extra={"param": param} if param else None)


class Responses:
    """All responses, as one process reads and changes them."""

    def __init__(self, event_log: EventLog, hub: Hub) -> None:
        self._log = event_log
        self._hub = hub

    @staticmethod
    def opening(stored: StoredResponse) -> Append:
        """Returns the append that makes a response exist, to be made with those of its run."""
        topic = response_topic(stored.run_id)
        return Append(topic=topic, owner=stored.sub, data=[_json(stored)], name=RESPONSE, expect=1)

    def watch(self, run: Run) -> None:
        """Has a run that is about to be opened obey the commands on its response's topic, for as long as it lives."""

        def see(block: Block) -> None:
            if block.name == StopCommand.event:
                run.stop(Aborted("stopped"))

        unwatch = self._hub.watch(response_topic(run.info.run_id), Position(epoch="", offset=0), see)
        run.finished.add_done_callback(lambda _: unwatch())

    async def find(
        self, who: Principal, run_id: str, param: str | None = None, code: str = "not_found"
    ) -> StoredResponse:
        """Returns the response of a run; raises NotFound when there is none for them, as an error about `param`."""
        part = await self._log.read(response_topic(run_id), 0, max_events=1)
        if part.blocks and part.blocks[0].name == RESPONSE:
            stored = msgspec.json.decode(part.blocks[0].data[0], type=StoredResponse)
            if stored.sub == who.sub:
                return stored
        raise no_response(PREFIX + run_id, param, code)

    async def end_of(self, run_id: str) -> RunFinished | None:
        """Returns how the run of a response ended, as it stands beside what was asked; None while it has not."""
        async for part in read_to_head(self._log, response_topic(run_id)):
            for block in part.blocks:
                if block.name == RunFinished.event:
                    return msgspec.json.decode(block.data[0], type=RunFinished)
        return None

    async def is_over(self, run_id: str) -> bool:
        """Returns whether a response's run has ended, or is kept no more."""
        state = await self._log.read(run_topic(run_id), NO_EVENTS, max_events=1)
        return state.closed or not state.epoch

    async def stop(self, run_id: str) -> None:
        """Has the process that writes a run stop it."""
        name, data = encode_event(StopCommand(run_id))
        await self._log.append(Append(topic=response_topic(run_id), data=[data], name=name))

    async def delete(self, run_id: str) -> None:
        """Removes a response and its run, which is over, for good."""
        await self._log.delete(response_topic(run_id))
        await self._log.delete(run_topic(run_id))
