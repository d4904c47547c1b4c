"""An inbox is the queue of a chat as the process that writes its active run sees it.

It is fed by the run's watch on the chat's topic, so a message arrives from any process. What the run decides about the
queue is fenced by the head that the inbox knows; when that was not the head any more, it is read on from there.
"""

from collections.abc import Callable

from events.log.port import Append, Block, EventLog, read_past_damage
from gateway.chat.history import History
from gateway.chat.queue import ChatQueue
from gateway.chat.records.chat_record import MESSAGE, Queued, RunInfo, Taken, Unqueued, decode_event, encode_event
from gateway.chat.topics import topic_of

ABOUT_QUEUES = (Queued.event, Unqueued.event, Taken.event)
"""Names of the events that are looked at; a message, too, may end the wait of one that has its id."""


class Inbox:
    """What waits for one run."""

    def __init__(self, info: RunInfo, event_log: EventLog) -> None:
        self.topic = topic_of(info) if info.chat_id else ""
        """The chat's topic; empty for a run that belongs to none."""
        self.head = 0
        self.is_gone = not info.chat_id
        """Whether there is no chat, or no more."""
        self.queue = ChatQueue()
        self.can_cut = True
        """Whether the step that is being written may be cut for a message."""
        self.is_cut = False
        """Whether it was; whoever begins the next step resets this."""
        self.on_change: Callable[[], None] = _nobody
        """Called each time that what waits may have changed."""
        self._run_id = info.run_id
        self._log = event_log
        self._epoch = ""

    def adopt(self, history: History) -> None:
        """Takes the chat as it was just read."""
        self._epoch, self.head, self.queue = history.epoch, history.head, history.queue.copy()

    def see(self, block: Block) -> None:
        """Takes a block of the chat's topic; one that was read before changes nothing."""
        is_message = block.name == MESSAGE and self.queue.waiting
        if block.name in ABOUT_QUEUES or is_message:
            for data in block.data[max(0, self.head + 1 - block.first) :]:
                event = decode_event(block.name, data)
                if event is not None:
                    self.queue.apply(event)
            self.on_change()
        self.head = max(self.head, block.last)

    async def refresh(self) -> None:
        """Reads what was written to the chat meanwhile. Raises LogError."""
        async for part in read_past_damage(self._log, self.topic, _ignored, after=self.head):
            if part.closed or not part.epoch or part.epoch != (self._epoch or part.epoch):
                self.is_gone = True
                return
            self._epoch = part.epoch
            for block in part.blocks:
                self.see(block)
            self.head = max(self.head, part.blocks[-1].last if part.blocks else part.head)

    # What the run may take

    def steers(self) -> list[Queued]:
        """Returns the messages that this run may take before its next step, in order."""
        waiting = () if self.is_gone else self.queue.waiting.values()
        return [queued for queued in waiting if queued.at != "turn" and queued.run_id in ("", self._run_id)]

    @property
    def is_urgent(self) -> bool:
        """Whether one of them is to be taken at once."""
        return self.can_cut and any(queued.at == "now" for queued in self.steers())

    def taking(self, steers: list[Queued]) -> Append:
        """Returns the append that tells the chat that this run takes messages, fenced by its head."""
        name, data = encode_event(Taken(run_id=self._run_id, ids=[queued.id for queued in steers]))
        return Append(topic=self.topic, name=name, data=[data], expect=self.head + 1)

    def took(self) -> list[str]:
        """Returns the ids of the messages that this run has taken."""
        return self.queue.taken_by(self._run_id)


def _ignored(first: int, last: int) -> None:
    """Passes over what is damaged, as every reader of a chat does."""


def _nobody() -> None:
    """Tells nobody."""
