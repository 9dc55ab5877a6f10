"""A stand-in for an endpoint, as a process of its own: it takes its time, and so many calls a second.

python -m benchmarks.standin LATENCY CALLS_A_SECOND

Prints its address; GET /counts tells how many calls it answered and refused, and over how long.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LATENCY, _LIMIT = float(sys.argv[1]), int(sys.argv[2])
_lock, _taken = threading.Lock(), deque[float]()
_counts: dict[str, float] = {"answered": 0, "refused": 0, "first": 0.0, "last": 0.0}


def _admitted(now: float) -> bool:
    """At most so many in any second."""
    with _lock:
        while _taken and _taken[0] <= now - 1:
            _taken.popleft()
        admitted = len(_taken) < _LIMIT
        if admitted:
            _taken.append(now)
        _counts["answered" if admitted else "refused"] += 1
        _counts["first"] = _counts["first"] or now
        return admitted


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(200, _counts)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if not _admitted(time.monotonic()):
            self._send(429, {"error": {"message": "too many requests"}})
            return
        time.sleep(_LATENCY)
        message = {"role": "assistant", "content": "yes"}
        usage = {"prompt_tokens": 40, "completion_tokens": 1}
        self._send(200, {"model": "stand-in", "choices": [{"index": 0, "message": message}], "usage": usage})
        _counts["last"] = time.monotonic()

    def _send(self, status: int, body: Any) -> None:
        sent = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    server = _Server(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
