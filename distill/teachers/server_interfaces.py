"""What each kind of server is asked for vectors with: the path, the JSON of a request, and where its answer has the vectors.

The end of a server's address says which kind it is, so that nothing has to be set.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from distill.encoders.tokenizing import Role
from distill.records import BadInput
from distill.teachers.endpoint import TryAgain
from distill.vectors.store_plan import WIDEST

# of JSON that is no answer: other values, integers above float32, brackets nested thousands deep
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
RoleFields = Mapping[str, Mapping[str, Any]]  # JSON fields of the requests of each role


def _find_by_index(answer: Any) -> list[Any]:
    by_index = {item["index"]: item["embedding"] for item in answer["data"]}
    return [by_index[index] for index in range(len(answer["data"]))]


@dataclass(frozen=True)
class Interface:
    """How one kind of server is asked for vectors.

    Attributes:
        name: the product that defined it.
        path: end of the address that texts are sent to.
        texts: field of a request with the list of texts.
        dimensions: field that asks for vectors of so many numbers.
        find_vectors: returns the vectors in an answer, in the order of the texts: lists of numbers, or base64 of them.
        fields: fields of every request.
        role_fields: fields of the requests of each role.
        has_models: whether a request names the model; a server without has one alone, and tells its name at /info.

    >>> OLLAMA.write_request("nomic", ["a", "b"], "query", dimensions=64)
    {'model': 'nomic', 'input': ['a', 'b'], 'truncate': True, 'dimensions': 64}
    """

    name: str
    path: str
    texts: str
    dimensions: str
    find_vectors: Callable[[Any], list[Any]]
    fields: Mapping[str, Any] = field(default_factory=dict)
    role_fields: RoleFields = field(default_factory=dict)
    has_models: bool = True

    def write_request(
        self, model: str, texts: list[str], role: Role, dimensions: int | None = None, role_fields: RoleFields | None = None
    ) -> dict[str, Any]:
        """Returns the JSON of a request; `role_fields` are what the user adds to it."""
        named = {"model": model} if self.has_models else {}
        sized = {} if dimensions is None else {self.dimensions: dimensions}
        own = {**self.fields, **self.role_fields.get(role, {}), **sized}
        return {**named, self.texts: texts, **own, **(role_fields or {}).get(role, {})}

    def check_role_fields(self, role_fields: RoleFields) -> None:
        """Refuses fields of other roles than query and document, those that a request has anyway, and what is no JSON."""
        if not isinstance(role_fields, Mapping):
            raise BadInput(f"role_fields: {role_fields!r} is no mapping: say {{query: {{...}}, document: {{...}}}}")
        own = {"model", self.texts, self.dimensions, *self.fields, *(name for fields in self.role_fields.values() for name in fields)}
        for role, fields in role_fields.items():
            if role not in get_args(Role):
                raise BadInput(f"role_fields: {role}: texts are a query or a document: say {{query: {{...}}, document: {{...}}}}")
            if not isinstance(fields, Mapping):
                raise BadInput(f"role_fields: {role}: {fields!r} is no mapping: say which fields, e.g. {{input_type: {role}}}")
            taken = sorted(own & fields.keys())
            if taken:
                raise BadInput(f"role_fields: {role}: {', '.join(taken)}: set without it in every request: leave it out")
            try:
                json.dumps(fields, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise BadInput(f"role_fields: {role}: cannot be sent as JSON ({error}): put a date, for one, into quotes") from None


# It is asked for neither floats nor base64: Voyage refuses "float", others refuse or ignore "base64", and all send numbers unasked.
OPENAI = Interface("OpenAI", "/embeddings", texts="input", dimensions="dimensions", find_vectors=_find_by_index)

OLLAMA = Interface(
    "Ollama",
    "/api/embed",
    texts="input",
    dimensions="dimensions",
    find_vectors=lambda answer: answer["embeddings"],
    fields={"truncate": True},
)

COHERE = Interface(
    "Cohere",
    "/v2/embed",
    texts="texts",
    dimensions="output_dimension",
    find_vectors=lambda answer: answer["embeddings"]["float"],
    fields={"embedding_types": ["float"]},
    role_fields={"query": {"input_type": "search_query"}, "document": {"input_type": "search_document"}},
)

# its vectors have length 1 unless role_fields say `normalize: false`; versions before 1.8 ignore `dimensions`
TEI = Interface(
    "text-embeddings-inference",
    "/embed",
    texts="inputs",
    dimensions="dimensions",
    find_vectors=lambda answer: answer,
    fields={"truncate": True},
    has_models=False,
)


def find_interface(address: str) -> Interface:
    """Finds the interface by the end of an address; it is OpenAI's unless the end is the path of another one.

    >>> [find_interface(f"http://localhost/{path}").name for path in ("v1", "api/embed/", "v2/embed", "embed")]
    ['OpenAI', 'Ollama', 'Cohere', 'text-embeddings-inference']
    """
    path = "/" + address.partition("://")[2].partition("/")[2].rstrip("/")
    native = (OLLAMA, COHERE, TEI)  # the last one's path is the end of the others'
    return next((interface for interface in native if path.endswith(interface.path)), OPENAI)


def read_vectors(body: bytes, count: int, interface: Interface) -> np.ndarray:
    """Reads the vectors [count, D] float32 from the JSON of an answer, in the order of the texts.

    Raises:
        TryAgain: it is not JSON, or not exactly `count` vectors of one width, of numbers that float32 holds.

    >>> read_vectors(b'{"data": [{"index": 1, "embedding": "AABAQAAAgEA="}, {"index": 0, "embedding": [1, 2]}]}', 2, OPENAI).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    try:
        answer = json.loads(body)
        if isinstance(answer, dict) and "error" in answer and not answer.keys() & {"data", "embeddings"}:
            raise TryAgain(f"an answer that is not {count} vectors: {answer['error']}")
        found = interface.find_vectors(answer)
        with np.errstate(over="ignore"):
            vectors = np.array([_unpack(vector) for vector in found], np.float32)
    except UNREADABLE as error:
        raise TryAgain(f"an answer that is not {count} vectors: {type(error).__name__}") from None
    if len(found) != count:
        raise TryAgain(f"an answer of {len(found)} vectors to {count} texts")
    if vectors.ndim != 2 or not 0 < vectors.shape[1] <= WIDEST or not np.isfinite(vectors).all():
        raise TryAgain(f"an answer that is not {count} vectors of finite numbers: shape {vectors.shape}")
    return vectors


def _unpack(vector: Any) -> Any:
    """Unpacks base64 of little-endian float32; a list of numbers is returned as it is."""
    if not isinstance(vector, str):
        return vector
    return np.frombuffer(base64.b64decode(vector, validate=True), "<f4")
