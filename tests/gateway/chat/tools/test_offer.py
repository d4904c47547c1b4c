"""What is offered is what the operator lists; what a server says of a tool can only tighten it."""

import re

import pytest

from gateway.chat.tools.offer import MAX_DESCRIPTION_BYTES, DescribedTool, fitting_name, offered_tools, permissions
from gateway.tool_settings import McpSettings, ToolSettings

FITS = re.compile(r"[A-Za-z0-9_-]{1,64}")


def server(**tools: ToolSettings) -> McpSettings:
    return McpSettings(name="crm", url="http://crm", tools=tools)


@pytest.mark.parametrize(
    ("approve", "effect", "hints", "expected"),
    [
        ("auto", "read", {}, ("auto", "read")),
        ("auto", "read", {"read_only": True, "destructive": True}, ("auto", "read")),
        ("auto", "read", {"read_only": False}, ("ask", "once")),
        ("auto", "read", {"read_only": False, "idempotent": True}, ("ask", "idempotent")),
        ("auto", "read", {"idempotent": False}, ("auto", "read")),
        ("auto", "idempotent", {"idempotent": False}, ("ask", "once")),
        ("auto", "idempotent", {"read_only": False, "destructive": True}, ("auto", "idempotent")),
        ("auto", None, {}, ("auto", "once")),
        ("auto", None, {"destructive": True}, ("ask", "once")),
        ("auto", None, {"destructive": False, "read_only": True, "idempotent": True}, ("auto", "once")),
        ("auto", "once", {"destructive": True}, ("auto", "once")),
        ("ask", "read", {"read_only": True}, ("ask", "read")),
        ("ask", None, {"read_only": True, "idempotent": True}, ("ask", "once")),
        ("ask", "idempotent", {"read_only": True}, ("ask", "idempotent")),
    ],
)
def test_annotations_tighten_and_never_loosen(
    approve: str, effect: str | None, hints: dict[str, bool], expected: tuple[str, str]
) -> None:
    settings = ToolSettings(approve=approve, effect=effect)  # type: ignore[arg-type]
    assert permissions(settings, DescribedTool(name="find", **hints)) == expected


def test_tools_are_offered_in_the_order_of_the_settings_and_no_other_ones() -> None:
    settings = server(
        b=ToolSettings(roles=("owner",), editable=True), a=ToolSettings(), no=ToolSettings(approve="deny")
    )
    described = [DescribedTool(name=name, description=name) for name in ("a", "no", "unlisted", "b")]
    tools = offered_tools(settings, described)
    assert [(name, tool.name) for name, tool in tools.items()] == [("b", "crm__b"), ("a", "crm__a")]
    assert (tools["b"].roles, tools["b"].editable, tools["b"].approve) == (("owner",), True, "ask")
    assert list(offered_tools(settings, [*described, *described])) == ["b", "a"]
    assert offered_tools(settings, []) == {}


def test_another_description_or_schema_is_another_digest_and_another_permission_is_not() -> None:
    plain = DescribedTool(name="a", description="x", parameters={"type": "object", "properties": {}})
    others = [
        DescribedTool(name="a", description="y", parameters=plain.parameters),
        DescribedTool(name="a", description="x", parameters={**plain.parameters, "required": ["b"]}),
    ]
    [digest, *changed] = [offered_tools(server(a=ToolSettings()), [one])["a"].digest for one in (plain, *others)]
    assert len({digest, *changed}) == 3
    loose = offered_tools(server(a=ToolSettings(approve="auto", effect="read")), [plain])["a"]
    assert loose.digest == digest


def test_a_tool_that_would_fill_a_models_window_is_not_offered() -> None:
    settings = server(a=ToolSettings())
    assert offered_tools(settings, [DescribedTool(name="a", description="x" * (MAX_DESCRIPTION_BYTES - 50))])
    assert not offered_tools(settings, [DescribedTool(name="a", description="x" * MAX_DESCRIPTION_BYTES)])


NAMES = ["find", "a.b", "a_b", "a b", "a/b", "ä", "日本", "", "x" * 59, "x" * 60, "x" * 61, "x" * 300, "-", "__"]


def test_every_name_fits_and_no_two_become_one() -> None:
    fitting = [fitting_name("crm", name) for name in NAMES]
    assert all(FITS.fullmatch(name) for name in fitting)
    assert len(set(fitting)) == len(NAMES)
    assert fitting[0] == "crm__find"
    assert fitting_name("crm", "x" * 59) == f"crm__{'x' * 59}"
