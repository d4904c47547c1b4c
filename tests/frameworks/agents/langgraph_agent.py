"""LangGraph behind `ag-ui-langgraph`. `python langgraph_agent.py PORT UPSTREAM`."""

import asyncio
import sys

import uvicorn
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from fastapi import FastAPI
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

port, upstream = int(sys.argv[1]), sys.argv[2]
app = FastAPI()
ticks = 0


@tool
async def lookup(text: str) -> str:
    """Looks something up."""
    return f"found {text}"


@tool
async def slow(text: str) -> str:
    """Takes ten seconds."""
    global ticks
    for _ in range(100):
        ticks += 1
        await asyncio.sleep(0.1)
    return text


@tool("lookup")
def asking_lookup(text: str) -> str:
    """Looks something up, if somebody allows it."""
    answer = interrupt({"message": f"look {text} up?", "reason": "confirmation"})
    return f"found {text}" if answer.get("approved") else "not allowed"


def graph_of(model: str, *tools):
    chat = ChatOpenAI(model=model, base_url=upstream, api_key="fake", streaming=True, stream_usage=True)

    async def think(state: MessagesState):
        return {"messages": [await chat.bind_tools(tools).ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return graph.compile(checkpointer=MemorySaver())


def serve(path: str, model: str, *tools) -> None:
    graph = graph_of(model, *tools)
    agent = LangGraphAgent(name=path, graph=graph, emit_interrupt_outcome=True, emit_raw_events=False)
    add_langgraph_fastapi_endpoint(app, agent, f"/{path}")


serve("tools", "agent-tools", lookup, slow)
serve("slow", "agent-slow", lookup, slow)
serve("asks", "agent-tools", asking_lookup)
serve("error", "error-openai", lookup)


@app.get("/ticks")
def seen() -> dict[str, int]:
    return {"ticks": ticks}


uvicorn.run(app, port=port, log_level="warning")
