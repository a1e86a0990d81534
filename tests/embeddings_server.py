"""A real HTTP server with OpenAI's embeddings and chat interfaces, which fails, throttles and breaks off as often as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import xxhash

WIDTH = 8
Trouble = Callable[["Handler", int], bool]  # answers request number n itself and returns True, or leaves it to the server


def vector(text: str) -> np.ndarray:
    """[WIDTH] float32, another one for every text."""
    return np.random.default_rng(xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass"))).standard_normal(WIDTH).astype(np.float32)


def queries(document: str) -> list[str]:
    """Three, of every document others; the last has a line end in it."""
    words = document.split()
    return [f"what is {words[0]}", f"{' '.join(words)} price", f"why\n{words[-1]} {len(document)}"]


@dataclass
class Server:
    """What was asked, and how."""

    address: str = ""
    trouble: Trouble = lambda handler, number: False
    answered: Counter[str] = field(default_factory=Counter)  # texts whose vectors went out whole
    requests: list[tuple[float, str | None, str]] = field(default_factory=list)  # time, Authorization, model
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.state.lock:
            number = len(self.state.requests)
            self.state.requests.append((time.monotonic(), self.headers["Authorization"], asked["model"]))
        self.asked = asked
        if self.path not in ("/v1/embeddings", "/v1/chat/completions"):
            return self.answer(404, {"error": f"no {self.path}"})
        if self.state.trouble(self, number):
            return None
        with self.state.lock:
            self.state.answered.update(asked["input"] if "input" in asked else [asked["messages"][-1]["content"]])
        if "input" in asked:
            return self.answer(200, self.embeddings(asked["input"]))
        self.say(json.dumps({"queries": queries(asked["messages"][-1]["content"])}))

    def say(self, content: str, done: bool = True, ascii_only: bool = True) -> None:
        """A chat completion, in pieces if that was asked for; without `done` the pieces end too soon."""
        if not self.asked["stream"]:
            return self.answer(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in (None, *(content[i : i + 7] for i in range(0, len(content), 7))):
            delta = {"role": "assistant"} if piece is None else {"content": piece}
            piece_of_json = json.dumps({"choices": [{"index": 0, "delta": delta}]}, ensure_ascii=ascii_only)
            self.wfile.write(f"data: {piece_of_json}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n" if done else b"")

    def embeddings(self, texts: list[str]) -> dict[str, object]:
        data = [{"object": "embedding", "index": i, "embedding": vector(text).tolist()} for i, text in enumerate(texts)]
        return {"object": "list", "data": data[::-1], "usage": {"prompt_tokens": 1}}  # the index tells the order, not the place

    def answer(self, status: int, content: object, headers: dict[str, str] | None = None, cut: int = 0, raw: bool = False) -> None:
        """Sends JSON, or a `raw` text; `cut` leaves out that many of the promised bytes and hangs up."""
        body = (str(content) if raw else json.dumps(content)).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(trouble: Trouble = lambda handler, number: False, handler: type[Handler] = Handler, path: str = "/v1") -> Iterator[Server]:
    state = Server(trouble=trouble)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"state": state}))
    state.address = f"http://127.0.0.1:{server.server_port}{path}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
