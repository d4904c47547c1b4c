"""What stands for a model in this example: it wants a refund paid at each message, and repeats what came of it.

It answers on 127.0.0.1:9135 as an OpenAI-compatible server does, with nothing but Python's own library.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 9135


class Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        last = request["messages"][-1]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if last["role"] == "tool":
            self.say({"content": f"This is what came of it: {last['content'].strip(chr(34))}."}, "stop")
        else:
            order = re.search(r"\d+", str(last["content"]))
            arguments = json.dumps({"order": int(order.group()) if order else 7, "euros": 30})
            function = {"name": "shop__refund", "arguments": arguments}
            self.say(
                {"tool_calls": [{"index": 0, "id": "call", "type": "function", "function": function}]}, "tool_calls"
            )

    def say(self, delta: dict[str, object], reason: str) -> None:
        for choice in ({"delta": delta}, {"delta": {}, "finish_reason": reason}):
            self.wfile.write(b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, **choice}]}).encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Says nothing: its output belongs to the tools."""


def start() -> None:
    """Serves in a thread; where somebody does already, that one is enough."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", PORT), Model)
    except OSError:
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
