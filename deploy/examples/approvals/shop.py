"""A server of two tools that speaks the Model Context Protocol over stdio, with nothing but Python's own library.

`find` only reads; `refund` changes something, tells how far it is, and acts once for a key, however often it is called.
With `--model` it also serves what stands for a model in this example.
"""

import json
import sys
import time

KEY = "dev.trilane/idempotency-key"
ORDER = {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}
MONEY = {**ORDER, "properties": {"order": {"type": "integer"}, "euros": {"type": "number"}}}
TOOLS = [
    {"name": "find", "description": "Finds an order.", "inputSchema": ORDER},
    {"name": "refund", "description": "Pays back money for an order.", "inputSchema": MONEY},
]
refunds: dict[str, str] = {}
"""What each key was answered."""


def say(message: dict[str, object]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def call(name: str, arguments: dict[str, float], meta: dict[str, str]) -> str:
    if name == "find":
        return f"order {arguments['order']}: one lamp, 30 euros, delivered"
    for step, words in enumerate(("asking the bank", "writing it down"), start=1):
        if token := meta.get("progressToken"):
            told = {"progressToken": token, "progress": step, "total": 3, "message": words}
            say({"method": "notifications/progress", "params": told})
        time.sleep(0.5)
    key = meta.get(KEY, "")
    return refunds.setdefault(key, f"{arguments.get('euros', 30)} euros paid back for order {arguments['order']}")


if "--model" in sys.argv:
    import model

    model.start()
for line in sys.stdin:
    request = json.loads(line)
    params = request.get("params", {})
    match request.get("method"):
        case "initialize":
            about = {"serverInfo": {"name": "shop", "version": "1"}, "capabilities": {"tools": {}}}
            say({"id": request["id"], "result": {**about, "protocolVersion": params["protocolVersion"]}})
        case "tools/list":
            say({"id": request["id"], "result": {"tools": TOOLS}})
        case "tools/call":
            text = call(params["name"], params.get("arguments", {}), params.get("_meta", {}))
            say({"id": request["id"], "result": {"content": [{"type": "text", "text": text}]}})
        case _ if "id" in request:
            say({"id": request["id"], "error": {"code": -32601, "message": "no such method"}})
