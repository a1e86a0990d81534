"""How often the teacher finds the document a query was made from in its top 10: round_trip.py

Of the fine-tuned generator, of the one it began from, and of spans as long as the fine-tuned one's queries; over documents that the
generator was not trained on. Leaves RUN/round_trip.json.
"""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import yaml

from distill.files.atomic import write_json
from distill.generate import Crop, Generator, Seq2Seq
from distill.generate.material import Material
from distill.generate.round_trip import RoundTripTeacher
from distill.metrics.retention import bootstrap_mean
from distill.training.run_folder import from_config
from distill.vectors.store import TeacherStore

HERE, RUN = Path(__file__).parent, Path("runs/generation")
TOP, DOCUMENTS = 10, 1000


def written(generator: Generator, texts: list[str]) -> list[str]:
    return [queries[0] if queries else "" for queries in generator.write(texts, [1] * len(texts), random.Random(0), lambda done: None)]


def main() -> None:
    settings = yaml.safe_load((HERE / "teach.yaml").read_text())
    source = from_config(settings["data"]["source"])
    teacher = RoundTripTeacher(TeacherStore(RUN / "medquad_teacher"))
    material = Material(source, "train")
    judged = source.qrels("test").judgments
    ids = list(dict.fromkeys(document for grades in judged.values() for document in grades))[:DOCUMENTS]
    texts = material.documents.read(material.documents.ids.rows(ids))
    given = settings["model"]["init_args"]
    start = Seq2Seq(given["start_from"], longest_text=given["longest_text"], longest_query=given["longest_query"])
    made = {}
    for name, generator in {"fine-tuned": Seq2Seq(str(RUN / "writer" / "teacher")), "untrained": start}.items():
        generator.prepare(material)
        made[name] = written(generator, texts)
    crop = Crop(kinds={"spans": 1.0})
    crop.prepare(material)
    crop._statistics = dataclasses.replace(material.statistics, lengths=[max(1, len(query.split())) for query in made["fine-tuned"]])
    made["spans of equal length"] = written(crop, texts)
    made["real"] = [source.queries("test")[row] for row in source.queries("test").ids.rows(list(judged))][:DOCUMENTS]
    results = {}
    for name, queries in made.items():
        sources = ids if name != "real" else [next(iter(grades)) for grades in judged.values()][:DOCUMENTS]
        found = bootstrap_mean(teacher.finds_documents(queries, sources, TOP).astype(float))
        results[name] = {"value": found.value, "ci95": [found.low, found.high], "queries": len(queries), "examples": queries[:5]}
        print(f"{name:<24} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]  {queries[:3]}")
    write_json(RUN / "round_trip.json", results)


if __name__ == "__main__":
    main()
