"""Lets a user sign in to a server of tools, and goes on with the chat that waits for it."""

from gateway.access.grants import Principal
from gateway.chat.approvals import ApprovalAnswer, Approvals
from gateway.chat.chats import Chats
from gateway.chat.tools.sign_ins import SignInAnswer, SignIns
from gateway.chat.tools.toolbox import Toolbox
from gateway.chat.topics import check_id
from gateway.errors import Gone, NotFound, TrilaneError


class ToolSignIn:
    """Takes users to the authorization servers of tools, and back, in one process."""

    def __init__(self, chats: Chats, approvals: Approvals, toolbox: Toolbox) -> None:
        self._chats = chats
        self._approvals = approvals
        self._toolbox = toolbox

    async def begin(self, who: Principal, name: str, chat_id: str) -> str:
        """Returns the address to send a user's browser to; empty for one who is signed in, whose chat then goes on.

        `chat_id`: the chat that waits, or empty. Raises NotFound (`mcp_not_found`), ToolUnreachable.
        """
        sign_ins = self._sign_ins(name)
        if chat_id:
            check_id("chat id", chat_id)
        address = await sign_ins.begin(who.sub, chat_id)
        if not address:
            await self._go_on(who, sign_ins, chat_id)
        return address

    async def finish(self, who: Principal, name: str, answer: SignInAnswer) -> None:
        """Signs a user in, as `SignIns.finish`, and goes on with the chat that waits for it."""
        sign_ins = self._sign_ins(name)
        await self._go_on(who, sign_ins, await sign_ins.finish(who.sub, answer))

    def _sign_ins(self, name: str) -> SignIns:
        sign_ins = self._toolbox.sign_ins.get(name)
        if sign_ins is None:
            raise NotFound(f"no user signs in to a server of tools {name[:40]!r} here", code="mcp_not_found")
        return sign_ins

    async def _go_on(self, who: Principal, sign_ins: SignIns, chat_id: str) -> None:
        """Answers what a chat asks about this server; whoever signed in is so even when that cannot be."""
        if not chat_id:
            return
        try:
            with self._chats.in_memory.hold() as held:
                history = await self._chats.existing(who, chat_id, held)
            for ask in history.open_asks:
                if ask.url.partition("?")[0] == sign_ins.address:
                    await self._approvals.answer(who, chat_id, ask.approval_id, ApprovalAnswer(approved=True))
        except (NotFound, Gone):
            return
        except TrilaneError as err:
            if err.code != "approval_decided":
                raise
