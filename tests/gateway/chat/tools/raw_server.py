"""A server of tools that speaks stdio without any package, and does what servers should not. It starts at once.

Its arguments: `stubborn` ignores SIGTERM and the end of its stdin; `daemon` leaves a process in a session of its own;
`slow` answers nothing for a second. It notes its own process ids in the file of the environment's `NOTES`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

TOOLS = ["echo", "garbage", "crash", "big", "hang", "deaf", "flood", "error", "pid", "second_time"]


def note(text: str) -> None:
    with open(os.environ.get("NOTES", os.devnull), "a") as notes:
        notes.write(f"{text}\n")


def say(message: object) -> None:
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


def answer(request: Any, result: object) -> None:
    say({"result": result, "jsonrpc": "2.0", "id": request["id"]})  # in the order of the TypeScript SDK


def text(request: Any, words: str) -> None:
    answer(request, {"content": [{"type": "text", "text": words}]})


def call(request: Any) -> None:
    name, arguments = request["params"]["name"], request["params"].get("arguments", {})
    note(f"call {name} {arguments['text']}" if name == "echo" else f"call {name}")
    match name:
        case "echo":
            text(request, arguments["text"])
        case "garbage":
            sys.stdout.write('not JSON\n{"jsonrpc":\n[1,2]\n"text"\n\n{"id":99,"result":3}\n\x00\x01\n')
            sys.stdout.buffer.write(b"\xff\xfe\n")
            say({"jsonrpc": "2.0", "method": "notifications/message", "params": "none of its kind"})
            text(request, "after garbage")
        case "crash":
            print("this was too much", file=sys.stderr, flush=True)
            os._exit(3)
        case "big":
            sys.stdout.buffer.write(b'{"result":{"content":[{"type":"text","text":"')
            sys.stdout.buffer.write("é".encode() * (arguments["bytes"] // 2))
            sys.stdout.buffer.write(b'"}]},"jsonrpc":"2.0","id":%d}\n' % request["id"])
            sys.stdout.flush()
        case "deaf":
            time.sleep(3600)
        case "flood":
            token = request["params"]["_meta"]["progressToken"]
            for step in range(arguments["count"]):
                params = {"progressToken": token, "progress": step, "message": "m" * 10}
                say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
            text(request, "flooded")
        case "error":
            say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32602, "message": "no such argument"}})
        case "pid":
            text(request, str(os.getpid()))
        case "second_time":  # answers only then
            with open(os.environ["NOTES"]) as notes:
                if notes.read().count("call second_time") > 1:
                    text(request, request["params"]["_meta"]["dev.trilane/idempotency-key"])


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        match request.get("method"):
            case "initialize":
                version = request["params"]["protocolVersion"]
                info = {"name": "raw", "version": "1"}
                answer(request, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
            case "tools/list":
                answer(request, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]})
            case "tools/call":
                call(request)
            case "notifications/cancelled":
                note(f"cancelled {request['params']['requestId']}")
            case _ if "id" in request:
                say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "no such method"}})


if __name__ == "__main__":
    note(f"pid {os.getpid()}")
    if "daemon" in sys.argv:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        note(f"pid {child.pid}")
    if "slow" in sys.argv:
        time.sleep(1)
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve()
    while "stubborn" in sys.argv:
        time.sleep(1)
