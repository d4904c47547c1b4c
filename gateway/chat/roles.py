"""Says who may do what in a chat: the one table of roles and rights, which every call asks. Pure.

A chat has one owner, who made it, until somebody is added. A stranger is told what everybody is told of a chat that
does not exist; a member without the right is told so.
"""

from typing import Literal

from gateway.chat.history import History
from gateway.chat.records.chat_record import Ask, MemberRole
from gateway.errors import Forbidden, NotFound

Right = Literal["read", "answer", "send", "manage"]
"""To read and follow, and be seen; to answer asks that name the role; to send, steer, queue and stop one's own runs; to
stop any run, change who is a member, and delete."""
RIGHTS: dict[MemberRole, frozenset[Right]] = {
    "viewer": frozenset({"read"}),
    "approver": frozenset({"read", "answer"}),
    "editor": frozenset({"read", "send"}),
    "owner": frozenset({"read", "answer", "send", "manage"}),
}
WORDS: dict[Right, str] = {
    "read": "read it",
    "answer": "answer what is asked",
    "send": "send messages",
    "manage": "do this",
}


def has_right(history: History, sub: str, right: Right) -> bool:
    """Returns whether a user may do something in a chat; in one that does not exist yet, everything."""
    role = history.members.get(sub)
    return role is not None and right in RIGHTS[role]


def require(history: History, sub: str, right: Right, asked_id: str = "") -> History:
    """Returns the chat to a user who has the right.

    Raises NotFound (`chat_not_found`) to a stranger, who learns nothing, and Forbidden (`role_forbidden`) to a member.
    `asked_id` is the id that the user called it by.
    """
    role = history.members.get(sub) if history.epoch else None
    if role is None:
        raise NotFound(f"there is no chat {asked_id or history.chat_id!r}", code="chat_not_found")
    if right not in RIGHTS[role]:
        raise forbidden(role, right)
    return history


def forbidden(role: MemberRole, right: Right) -> Forbidden:
    able = [other for other, rights in RIGHTS.items() if right in rights]
    return Forbidden(
        f"you are {_article(role)} {role} of this chat; to {WORDS[right]} takes the role {' or '.join(able)}",
        code="role_forbidden",
        extra={"role": role},
    )


def may_answer(history: History, sub: str, ask: Ask) -> bool:
    """Returns whether a user may answer an ask: one that names no roles is for whoever may send."""
    role = history.members.get(sub)
    if role is None:
        return False
    if not ask.roles:
        return bool(RIGHTS[role] & {"answer", "send"})
    return role in ask.roles and "answer" in RIGHTS[role]


def require_answer(history: History, sub: str, ask: Ask) -> None:
    """Raises Forbidden (`role_forbidden`) unless a member may answer an ask."""
    if not may_answer(history, sub, ask):
        role = history.members[sub]
        raise Forbidden(
            f"you are {_article(role)} {role} of this chat; this is answered by "
            f"{_article(ask.roles[0]) if ask.roles else 'an'} {' or '.join(ask.roles) or 'editor or owner'}",
            code="role_forbidden",
            extra={"role": role},
        )


def require_stop(history: History, sub: str, run_id: str) -> None:
    """Raises Forbidden (`role_forbidden`) unless a member may stop a run: one's own, or any."""
    role = history.members[sub]
    if "manage" not in RIGHTS[role] and not ("send" in RIGHTS[role] and history.sender_of(run_id) == sub):
        what = "this one was asked for by somebody else" if "send" in RIGHTS[role] else "that takes a run of your own"
        raise Forbidden(
            f"you are {_article(role)} {role} of this chat, and {what}: an owner stops any run",
            code="role_forbidden",
            extra={"role": role},
        )


def _article(role: str) -> str:
    return "an" if role[0] in "aeiou" else "a"
