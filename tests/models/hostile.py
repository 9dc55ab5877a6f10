"""A stand-in for an OpenAI-compatible server on a real socket, which can be told to misbehave.

with StandIn(say=lambda text: "fruit") as server: Endpoint("m", server.url)
"""

from __future__ import annotations

import json
import math
import random
import socket
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opportune.models.endpoint import Endpoint
from opportune.models.endpoint_calls import Patience
from opportune.types import Message, Prompt

MISBEHAVIOURS = ("busy", "busy-after", "broken", "half", "junk", "empty", "wrong", "silence")
HASTY = Patience(timeout=1.0, total=20, retries=12, backoff=0.02)


def endpoint(server, name="m", **options):
    """An endpoint with little patience, for tests."""
    return Endpoint(name, server.url, **{"patience": HASTY, **options})


def prompt(text, **options):
    return Prompt((Message("system", "be brief"), Message("user", text)), **options)


def ask(model, prompts, known=None):
    return dict(model.complete(prompts, known or {}))


def shout(text):
    return text.upper()


@dataclass
class Reply:
    """What goes back over the wire."""

    status: int = 200
    body: object = None
    headers: dict = field(default_factory=dict)
    delay: float = 0.0
    half: bool = False


class StandIn:
    """Answers by `say`, a function of the last user message (or of the text, for completions).

    `ways`: what it offers for choices (echo, first-token, constrained); `share` of its replies go wrong, in a mixture
    by `seed`; `limit` calls a second, 429 beyond; `reply` takes a whole request (path, body) and may give a Reply.
    """

    def __init__(self, say=lambda text: "yes", *, ways=(), share=0.0, seed=0, limit=None, latency=0.0, reply=None,
                 name="m", likes=None):  # fmt: skip
        self.say, self.ways, self.share, self.limit, self.latency = say, ways, share, limit, latency
        self.reply, self.name, self.likes = reply, name, likes
        self.listing = 404  # the status of the list of models, which many servers do not have
        self._random, self._lock, self._taken = random.Random(seed), threading.Lock(), deque()
        self.requests, self.answered, self.kinds = [], [], Counter()
        self.tokens_in = self.tokens_out = self.running = self.most_running = 0

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._server.server_close()

    def bodies(self, path="/v1/chat/completions"):
        return [body for there, body in self.requests if there == path]

    def handle(self, path, body, headers):
        with self._lock:
            self.requests.append((path, body))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            kind = self._random.choice(MISBEHAVIOURS) if self._random.random() < self.share else "good"
            if self.limit is not None and not self._admitted():
                kind = "busy"
            self.kinds[kind] += 1
        self.headers = headers
        try:
            own = self.reply(path, body) if self.reply else None
            reply = own or self._reply(path, body, kind)
            time.sleep(reply.delay or (self.latency if reply.status == 200 else 0))
        finally:
            with self._lock:
                self.running -= 1
        if reply.status == 200 and isinstance(reply.body, dict) and not reply.half and not reply.delay:
            with self._lock:
                self.answered.append((path, body))
                usage = reply.body.get("usage", {})
                self.tokens_in += usage.get("prompt_tokens", 0)
                self.tokens_out += usage.get("completion_tokens", 0)
        return reply

    def _admitted(self):
        now = time.monotonic()
        while self._taken and self._taken[0] <= now - 1:
            self._taken.popleft()
        if len(self._taken) >= self.limit:
            return False
        self._taken.append(now)
        return True

    def _reply(self, path, body, kind):
        good = self.answer(path, body)
        fine = good if isinstance(good, Reply) else Reply(body=good)
        if kind == "busy":
            return Reply(429, error("slow down"))
        if kind == "busy-after":
            return Reply(429, error("slow down"), {"Retry-After-Ms": "40"})
        if kind == "broken":
            return Reply(500, "oh no")
        if kind == "junk":
            return Reply(body=b'{"choices": [{"mess')
        if kind == "silence":
            return replace(fine, delay=1.5)
        if kind == "half":
            return replace(fine, half=True)
        if isinstance(good, Reply):
            return fine
        if kind == "empty":
            return Reply(body={**good, "choices": []})
        if kind == "wrong":
            said = [{**c, "message": {"role": "assistant", "content": "WRONG"}} for c in good["choices"]]
            return Reply(body={**good, "model": "another-model", "choices": said})
        return fine

    def answer(self, path, body):
        """A right answer, or the refusal of what this server does not offer."""
        if path == "/v1/chat/completions":
            return self._chat(body)
        if path == "/v1/completions":
            return self._completions(body)
        return Reply(404, error("no such path"))

    def _chat(self, body):
        asked = body["messages"][-1]["content"]
        if "response_format" in body and "constrained" in self.ways:
            allowed = body["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"]
            said = self.say(asked)
            texts = [json.dumps({"answer": said if said in allowed else allowed[0]})]
        else:
            texts = [self.say(asked) for _ in range(body.get("n", 1))]
        choices = [
            {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            for i, text in enumerate(texts)
        ]
        if body.get("logprobs"):
            if "first-token" in self.ways:
                choices[0]["logprobs"] = {"content": [self._first(asked)]}
            elif "nonsense" in self.ways:
                rows = [{"token": f"t{i}", "logprob": -0.1} for i in range(5)]
                choices[0]["logprobs"] = {"content": [{**rows[0], "top_logprobs": rows}]}
        return self._whole(choices, sum(len(m["content"].split()) for m in body["messages"]), texts)

    def _first(self, asked):
        likes = self.likes(asked) if self.likes else {"yes": 0.6, "no": 0.3}
        rows = [{"token": token, "logprob": math.log(p)} for token, p in sorted(likes.items(), key=lambda x: -x[1])]
        return {**rows[0], "top_logprobs": rows}

    def _completions(self, body):
        texts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        if not body.get("echo"):
            said = [self.say(text) for text in texts]
            return self._whole([{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(said)],
                               sum(len(text.split()) for text in texts), said)  # fmt: skip
        if "echo" not in self.ways:
            return Reply(400, error("echo is not supported"))
        choices = [{"index": i, "text": text, "logprobs": self._echoed(text)} for i, text in enumerate(texts)]
        return self._whole(choices, sum(len(text.split()) for text in texts), [])

    def _echoed(self, text):
        """Each word is likely where its number is one more than the last, or where `likes` gives it a probability."""
        tokens, places = [], []
        for word in text.split(" "):
            token = word if not tokens else " " + word
            places.append(sum(map(len, tokens)))
            tokens.append(token)
        values = [None, *(self._value(tokens[:i], tokens[i]) for i in range(1, len(tokens)))]
        return {"tokens": tokens, "token_logprobs": values, "text_offset": places}

    def _value(self, before, token):
        word, last = token.strip(), before[-1].strip()
        if "nonsense" in self.ways:
            return 0.7
        if word.isdigit() and last.isdigit():
            return -0.1 if int(word) == int(last) + 1 else -5.0
        return math.log((self.likes("".join(before)) if self.likes else {}).get(word, 0.01))

    def _whole(self, choices, tokens_in, texts):
        usage = {"prompt_tokens": tokens_in, "completion_tokens": sum(len(text.split()) for text in texts)}
        return {"model": self.name, "choices": choices, "usage": usage}


def error(message, **more):
    """An error as OpenAI writes one."""
    return {"error": {"message": message, **more}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the test."""


def _handler(stand_in):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            self._send(Reply(stand_in.listing, error("no list of models")))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(stand_in.handle(self.path, body, self.headers))

        def _send(self, reply):
            sent = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent[: len(sent) // 2] if reply.half else sent)
            if reply.half:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *args):
            """Quiet."""

    return Handler
