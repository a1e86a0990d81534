"""`distill export`: the student for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.encoders.encoder import Encoder
from distill.encoders.folder import load_encoder
from distill.encoders.towers import Towers, load_maker
from distill.export.index import add_index, describe_index
from distill.export.serving import PYTORCH, add_serving, describe_choice
from distill.files.atomic import read_json, write_atomically, write_json
from distill.records import BadInput
from distill.training.run_folder import RunFolder
from distill.vectors.faiss_index import Kind, require_faiss

PAIR = """pair = SentenceTransformer("router")
documents = pair.encode_document(["..."])  # the teacher
scores = pair.similarity(pair.encode_query(["how do I ..."]), documents)  # the student
"""


def export(run: str, out: str | None = None, index: Kind | None = None) -> None:
    """Writes the student as a sentence-transformers folder, the pair of student and teacher as another, and a model card.

    `student/` embeds queries; with the extra `onnx` installed it holds ONNX models too, and `latency.json` says which to serve.
    `router/` embeds queries with the student (`encode_query`) and documents with the teacher (`encode_document`), both with
    their own prompts; there is none where the teacher's model is not known, only its vectors.

    Args:
        run: run folder, as `distill train` leaves it.
        out: folder to write; `export` in the run folder by default.
        index: also write a faiss index of the documents into `index/`, tuned and measured against exact search: flat compares with
            every document, ivf and hnsw with a part of them. Needs the extra `cpu` or `gpu`; may be added to an earlier export.
    """
    if index:
        require_faiss()
    folder = RunFolder(Path(run))
    if not folder.inherits_documents:
        whole = folder.require_student()
        raise BadInput(f"{run}: its student embeds documents itself: {whole} is the whole model, for sentence-transformers too")
    student = load_encoder(str(folder.require_student()))
    maker = folder.teacher_store(folder.settings()["data"]["store"]).maker
    teacher = load_maker(maker).document if maker.is_loadable else None
    inputs = {"student": student.fingerprint(), "teacher": maker.fingerprint}
    destination = Path(out) if out else folder.path / "export"
    if destination.exists() and any(destination.iterdir()):
        if not (destination / "export.json").exists():
            raise BadInput(f"{destination}: not an export and not empty: choose another --out")
        if read_json(destination / "export.json", "earlier export") != inputs:
            raise BadInput(f"{destination}: exported from another student or teacher: choose another --out or delete it")
        add_serving(student, folder, destination)  # the extra was installed since, perhaps
        print(f"{destination}: done before, the model card as of now")
    else:
        with write_atomically(destination) as temporary:
            temporary.mkdir(parents=True)
            student.save_pretrained(temporary / "student")
            if teacher:
                Towers(student, teacher).save_pretrained(temporary / "router")
            add_serving(student, folder, temporary)
            write_card(temporary, folder, student, teacher, maker.name)
            write_json(temporary / "export.json", inputs)
        print(f"{destination}/student: SentenceTransformer({str(destination / 'student')!r}).encode(queries)")
        if teacher:
            print(f"{destination}/router: encode_query(...) is the student, encode_document(...) the teacher")
        else:
            print(f"{maker.name}: its vectors {maker.describe_origin()}, the model is not here: no router/ of student and teacher")
    if index:
        add_index(student, folder, destination, index)
    write_card(destination, folder, student, teacher, maker.name)  # evaluated or indexed since, perhaps


def write_card(folder: Path, run: RunFolder, student: Encoder, teacher: Encoder | None, teacher_name: str) -> None:
    latency, index = (
        read_json(folder / name, "measurements") if (folder / name).exists() else None for name in ("latency.json", "index/index.json")
    )
    card, path = model_card(run, student, teacher, teacher_name, latency, index), folder / "README.md"
    if not path.exists() or path.read_text(encoding="utf-8") != card:
        with write_atomically(path) as temporary:
            temporary.write_text(card, encoding="utf-8", errors="replace")


def model_card(
    run: RunFolder,
    student: Encoder,
    teacher: Encoder | None,
    teacher_name: str,
    latency: dict[str, Any] | None = None,
    index: dict[str, Any] | None = None,
) -> str:
    """README.md of an export: what it is, how to use it, what was measured."""
    size = f" ({teacher.parameter_count() / 1e6:.1f}M parameters)" if teacher else ""
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, distillation]
---
# A small query encoder for the index of {public_name(teacher_name)}

{student.parameter_count() / 1e6:.1f}M parameters, {student.width} dimensions, up to {student.settings.max_length} tokens. It writes
query vectors into the embedding space of `{public_name(teacher_name)}`{size}, so documents that
the teacher has embedded stay as they are.

```python
from sentence_transformers import SentenceTransformer

queries = SentenceTransformer("student").encode_query(["how do I ..."])
{PAIR if teacher else ""}```
{_serving(student, latency) if latency else ""}{_searching(index, latency) if index else ""}
## Measured
{_measured(run.path / "results.json")}

## Trained with
```json
{json.dumps(run.settings()["model"], indent=1)}
```
"""


def _serving(student: Encoder, latency: dict[str, Any]) -> str:
    """How to serve, with what was measured of each way."""
    rows = [
        f"| {name}: `{path['file']}` | {path['query_latency_ms_p50']:.2f} | {path['query_latency_ms_p95']:.2f} "
        f"| {path['cosine_mean']:.4f} | {path['cosine_min']:.4f} |"
        for name, path in latency["paths"].items()
    ]
    table = "\n".join(["| | p50 ms | p95 ms | mean cosine to PyTorch | least |", "|---|---|---|---|---|", *rows])
    return f"""
## Serving
One query at a time on one core of {latency["processor"]}, from text to vector, {latency["queries"]} queries:

{table}

{describe_choice(latency)}
{_onnx_example(student, latency["paths"][latency["serve"]]["file"]) if latency["serve"] != PYTORCH else ""}"""


def _searching(index: dict[str, Any], latency: dict[str, Any] | None) -> str:
    """How to ask the index with the student, by the way that is recommended to serve it."""
    served = latency["paths"][latency["serve"]]["file"] if latency and latency["serve"] != PYTORCH else None
    if served:
        package, model = (
            "from distill.export.onnx_encoder import OnnxEncoder",
            f'OnnxEncoder("student", model="{served.removeprefix("student/")}")',
        )
    else:
        package, model = "from sentence_transformers import SentenceTransformer", 'SentenceTransformer("student")'
    encode = "encode" if served else "encode_query"
    return f"""
## Index
`index/documents.faiss` holds the teacher's vectors of {index["documents"]} documents; row i is the document on line i of `index/ids.txt`.
{describe_index(index)}

```python
import faiss
{package}

student, index = {model}, faiss.read_index("index/documents.faiss")
ids = open("index/ids.txt", encoding="utf-8").read().split("\\n")
scores, rows = index.search(student.{encode}(["how do I ..."]), 10)
found = [ids[row] for row in rows[0] if row >= 0]
```
"""


def _onnx_example(student: Encoder, file: str) -> str:
    prompt = student.settings.prompts["query"]
    return f"""
```python
from onnxruntime import InferenceSession  # pip install onnxruntime tokenizers
from tokenizers import Tokenizer

tokenizer, session = Tokenizer.from_file("student/tokenizer.json"), InferenceSession("{file}")
tokenizer.enable_truncation({student.settings.max_length})
tokens = tokenizer.encode({f"{prompt!r} + " if prompt else ""}"how do I ...")
vector = session.run(None, {{"input_ids": [tokens.ids], "attention_mask": [tokens.attention_mask]}})[0]  # [1, {student.width}]
```
"""


def public_name(model: str) -> str:
    """A hub name as it is, of a local folder its own name and no path of this machine."""
    return "/".join(Path(model).parts[-2:]) if Path(model).is_absolute() else model


def _measured(path: Path) -> str:
    if not path.exists():
        return f"Nothing yet: `distill evaluate {path.parent}` before exporting."
    results: dict[str, Any] = read_json(path, "results")
    metrics = list(results["retention"])
    lines = [f"On {results['dataset']}, {results['queries']} queries:", ""]
    lines += [f"| | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{s[m]:.4f}' for m in metrics)} |" for name, s in results["systems"].items()]
    kept = (results["retention"][metric] for metric in metrics)
    lines.append(f"| kept, 95% interval | {' | '.join('{:.1%} [{:.1%}, {:.1%}]'.format(k['value'], *k['ci95']) for k in kept)} |")
    return "\n".join(lines)
