"""Trains and evaluates the rows of rows.yaml, each once, and writes what came out: ablation.py [ROW...]

Leaves RUN/results.json: a system for each row, BASE_best for each set of real queries, and the paired differences to the base.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from distill.cli import main as cli
from distill.files.atomic import read_json, write_json
from distill.metrics.ranking import overlap, ranking_metrics
from distill.metrics.retention import bootstrap_mean
from distill.metrics.trec_runs import read_trec
from distill.texts.text_source import TextSource
from distill.training.run_folder import from_config

HERE, RUN = Path(__file__).parent, Path("runs/generation")
ROWS = RUN / "rows"
HOLDOUT = "holdout"


def distill(*arguments: Any) -> None:
    if code := cli.main([str(argument) for argument in arguments]):
        sys.exit(code)


def make(name: str, row: dict[str, Any], part: dict[str, Any]) -> None:
    """A row's student and its results; what is done is skipped."""
    out = ROWS / name
    files = {str(RUN / file / f"{file}.jsonl"): share for file, share in row.get("queries", {}).items()}
    data = {**part["data"], **row} | ({"queries": files} if files else {})
    out.mkdir(parents=True, exist_ok=True)
    config = ROWS / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"data": data} | ({"trainer": {"max_steps": part["steps"]}} if "steps" in part else {})))
    distill("train", "-c", HERE / "train.yaml", "-c", config, "--out", out)
    splits = {"results.json": part["split"]} | ({"holdout.json": HOLDOUT} if part["name"] == "msmarco_dl" else {})
    for file, split in splits.items():
        if not (out / file).exists():
            distill("evaluate", out, "--split", split, "--out", out / file)


def dev_overlap(name: str) -> float:
    lines = map(json.loads, (ROWS / name / "metrics.jsonl").read_text().splitlines())
    return max(line["dev/overlap@10"] for line in lines if "dev/overlap@10" in line)


def per_query(name: str, part: dict[str, Any], source: TextSource) -> dict[str, np.ndarray]:
    """Values of a row's student, one for each query: agreement with the teacher's top 10, and nDCG@10 where judged."""
    splits = {"overlap@10": HOLDOUT if part["name"] == "msmarco_dl" else part["split"], "ndcg@10": part["split"]}
    documents = source.documents().ids
    found = {}
    for metric, split in splits.items():
        rankings = ROWS / name / ("runs" if split == part["split"] else "runs-holdout") / split
        runs = {system: read_trec(rankings / f"{system}.trec") for system in ("teacher", "student")}
        queries = [query for query in source.queries(split).ids if metric != "ndcg@10" or query in source.qrels(split).judgments]
        rows = {
            system: np.stack([documents.rows([document for document, _ in run[query][:100]]) for query in queries])
            for system, run in runs.items()
        }
        if metric == "overlap@10":
            found[metric] = overlap(torch.from_numpy(rows["teacher"]), torch.from_numpy(rows["student"]), 10).numpy()
        else:
            grades = map(torch.from_numpy, source.qrels(split).grade(queries, documents, rows["student"]))
            found[metric] = ranking_metrics(*grades, source.relevant_from)[metric].numpy()
    return found


def collected(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The table of every row that is done."""
    systems: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for part in parts:
        done = [name for name in part["rows"] if (ROWS / name / "results.json").exists()]
        source = from_config(part["data"]["source"])
        values = {name: per_query(name, part, source) for name in done}
        for name in done:
            result = read_json(ROWS / name / "results.json", "results")
            systems[name] = {
                "dataset": result["dataset"],
                **part["rows"][name],
                **result["systems"]["student"],
                "retention": result["retention"],
                "agreement": result["agreement"],
                "dev_overlap@10": dev_overlap(name),
            }
        for base in (name for name in done if part["rows"][name].keys() == {"train"}):
            mixes = [name for name in done if name.startswith(f"{base}_") and part["rows"][name]["train"] == part["rows"][base]["train"]]
            for name in mixes:
                differences[name] = difference(values[name], values[base])
            if mixes:
                best = max(mixes, key=dev_overlap)
                systems[f"{base}_best"] = {"row": best, **systems[best]}
                differences[f"{base}_best"] = differences[best]
    return {"dataset": ", ".join(dict.fromkeys(part["name"] for part in parts)), "systems": systems, "differences_to_real": differences}


def difference(mix: dict[str, np.ndarray], base: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of two rows with the same real queries, paired over queries."""
    found = {metric: bootstrap_mean(mix[metric] - base[metric]) for metric in mix}
    return {metric: {"value": value, "ci95": [low, high]} for metric, (value, low, high) in found.items()}


def main(only: list[str]) -> None:
    parts = [part for part in yaml.safe_load((HERE / "rows.yaml").read_text()) if Path(part["data"]["store"]).exists()]
    for part in parts:
        for name, row in part["rows"].items():
            made = all((RUN / file / f"{file}.jsonl").exists() for file in row.get("queries", {}))
            if made and (not only or name in only):
                make(name, row, part)
    results = collected(parts)
    write_json(RUN / "results.json", results)
    for name, system in results["systems"].items():
        kept = system["retention"]["ndcg@10"]
        print(f"{name:<28} overlap@10 {system['agreement']['overlap@10']:.3f}  nDCG@10 kept {kept['value']:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
