"""Small servers that take requests and answer them as the products do: text-embeddings-inference, Ollama, Cohere, Voyage, OpenAI.

The vector of a text is that of `expected`: another one for every text, role and setting, so that a test sees what reached the model.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any, ClassVar

import numpy as np
from embeddings_server import WIDTH, Handler, vector


def expected(texts: list[str], seen_as: str = "", width: int = WIDTH) -> np.ndarray:
    """[N, width] float32 of length 1, for texts that the model sees with `seen_as` before them."""
    vectors = np.stack([vector(seen_as + text)[:width] for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Refusal(Exception):
    """The status and the JSON of a refusal."""


class Product(Handler):
    """A server with one path, whose requests have only fields that it knows."""

    path_of_texts: ClassVar[str]
    texts_field: ClassVar[str]
    known: ClassVar[set[str]]
    most_texts: ClassVar[int]
    ignores_unknown: ClassVar[bool] = False

    def refuse(self, status: int, message: str) -> Refusal:
        return Refusal(status, {"error": message})

    def do_POST(self) -> None:
        self.asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.state.lock:
            self.state.requests.append((time.monotonic(), self.headers["Authorization"], self.asked.get("model", "")))
            number = len(self.state.requests) - 1
        if self.state.trouble(self, number):
            return None
        try:
            self.answer(200, self.embed())
        except Refusal as refusal:
            self.answer(*refusal.args)

    def embed(self) -> Any:
        texts, unknown = self.asked.get(self.texts_field), sorted(self.asked.keys() - self.known)
        if self.path != self.path_of_texts:
            raise self.refuse(404, f"no {self.path}")
        if not isinstance(texts, list) or (unknown and not self.ignores_unknown):
            raise self.refuse(400, f"unknown or missing fields: {unknown}")
        if len(texts) > self.most_texts:
            raise self.too_many(len(texts))
        answer = self.write_answer(texts)
        with self.state.lock:
            self.state.answered.update(texts)
        return answer

    def too_many(self, count: int) -> Refusal:
        return self.refuse(400, f"{count} texts, at most {self.most_texts}")

    def write_answer(self, texts: list[str]) -> Any:
        raise NotImplementedError


class Tei(Product):
    path_of_texts, texts_field, most_texts, ignores_unknown = "/embed", "inputs", 32, True
    known: ClassVar[set[str]] = {"inputs", "truncate", "normalize", "prompt_name", "truncation_direction", "dimensions"}
    info: ClassVar[tuple[int, Any]] = (200, {"model_id": "thenlper/gte-base", "model_sha": "fca1453", "max_client_batch_size": 32})
    longest = 100  # characters

    def do_GET(self) -> None:
        self.answer(*(self.info if self.path == "/info" else (404, {})))

    def too_many(self, count: int) -> Refusal:
        message = f"batch size {count} > maximum allowed batch size {self.most_texts}"
        return Refusal(413, {"error": message, "error_type": "Validation"})

    def write_answer(self, texts: list[str]) -> Any:
        if not self.asked.get("truncate") and max(map(len, texts)) > self.longest:
            raise Refusal(413, {"error": "`inputs` must have less than 100 tokens", "error_type": "Validation"})
        found = expected([text[: self.longest] for text in texts], self.asked.get("prompt_name", ""), self.asked.get("dimensions") or WIDTH)
        return (found * (1 if self.asked.get("normalize", True) else 2)).tolist()


class OldTei(Tei):
    """A version before 1.8, which knows no dimensions and ignores them."""

    def write_answer(self, texts: list[str]) -> Any:
        self.asked.pop("dimensions", None)
        return super().write_answer(texts)


class Ollama(Product):
    path_of_texts, texts_field, most_texts, ignores_unknown = "/api/embed", "input", 1000, True
    known: ClassVar[set[str]] = {"model", "input", "truncate", "options", "keep_alive", "dimensions"}

    def write_answer(self, texts: list[str]) -> Any:
        if self.asked["model"] != "nomic-embed-text":
            raise Refusal(404, {"error": f'model "{self.asked["model"]}" not found, try pulling it first'})
        found = expected(texts, width=self.asked.get("dimensions") or WIDTH)
        return {"model": self.asked["model"], "embeddings": found.tolist(), "total_duration": 14143917, "prompt_eval_count": 8}


class Cohere(Product):
    path_of_texts, texts_field, most_texts = "/v2/embed", "texts", 96
    known: ClassVar[set[str]] = {"model", "texts", "input_type", "embedding_types", "output_dimension", "truncate", "max_tokens"}

    def refuse(self, status: int, message: str) -> Refusal:
        return Refusal(status, {"id": "1f", "message": message})

    def write_answer(self, texts: list[str]) -> Any:
        if self.asked.get("input_type") not in ("search_query", "search_document"):
            raise self.refuse(400, "valid input_type must be provided with the provided model")
        found = expected(texts, self.asked["input_type"], self.asked.get("output_dimension") or WIDTH)
        return {"id": "1f", "embeddings": {"float": found.tolist()}, "texts": texts, "response_type": "embeddings_by_type"}


class Voyage(Product):
    """OpenAI's paths and answers, with fields of its own."""

    path_of_texts, texts_field, most_texts = "/v1/embeddings", "input", 1000
    known: ClassVar[set[str]] = {"model", "input", "input_type", "truncation", "output_dimension", "output_dtype", "encoding_format"}

    def refuse(self, status: int, message: str) -> Refusal:
        return Refusal(status, {"detail": message})

    def write_answer(self, texts: list[str]) -> Any:
        if self.asked.get("encoding_format") not in (None, "base64"):
            raise self.refuse(400, "Value supplied for argument 'encoding_format' is not valid -- accepted values are 'base64'")
        found = expected(texts, self.asked.get("input_type", ""), self.asked.get("output_dimension") or WIDTH)
        return self.write_data(found)

    def write_data(self, found: np.ndarray) -> Any:
        packed = self.asked.get("encoding_format") == "base64"
        vectors = [base64.b64encode(row.astype("<f4").tobytes()).decode() if packed else row.tolist() for row in found]
        data = [{"object": "embedding", "embedding": vector, "index": index} for index, vector in enumerate(vectors)]
        return {"object": "list", "data": data[::-1], "model": self.asked["model"], "usage": {"total_tokens": 10}}


class OpenAi(Voyage):
    known: ClassVar[set[str]] = {"model", "input", "encoding_format", "dimensions", "user"}
    most_texts, longest = 5, 100  # 2,048 texts and 8,192 tokens there

    def refuse(self, status: int, message: str) -> Refusal:
        return Refusal(status, {"error": {"message": message, "type": "invalid_request_error", "code": None}})

    def write_answer(self, texts: list[str]) -> Any:
        if max(map(len, texts)) > self.longest:
            raise self.refuse(400, "This model's maximum context length is 100 tokens, reduce your prompt")
        return self.write_data(expected(texts, width=self.asked.get("dimensions") or WIDTH))
