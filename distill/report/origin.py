"""Describes the inputs, machine and commands of a run, so that it can be reproduced."""

from __future__ import annotations

import json
import shlex
from typing import Any

from distill.encoders.maker import Maker
from distill.report.evidence import RunEvidence


def describe_origin(run: RunEvidence) -> dict[str, Any]:
    """Returns provenance, commands and configuration of a run, in the format of the page's template."""
    training, evaluation = run.record["provenance"], run.provenance
    facts = {
        "teacher": f"{evaluation['teacher']['name']} ({evaluation['teacher']['fingerprint']})",
        "student": evaluation["student"],
        "texts": f"documents {evaluation.get('documents', '-')}, queries {evaluation.get('texts', '-')}",
        "leakage": f"{run.record.get('removed_from_train', '?')} training queries left out, because another split has them too",
        "commit": f"{training['commit']} (training), {evaluation['commit']} (evaluation)",
        "packages": ", ".join(f"{name} {version}" for name, version in evaluation["packages"].items()),
        "machine": ", ".join([evaluation["processor"], f"{evaluation['threads']} threads", *evaluation["gpus"]]),
        "time": f"{training['time']} (training), {evaluation['time']} (evaluation)",
        "seed": run.record["inputs"]["seed_everything"],
    }
    return {
        "name": run.name,
        "provenance": [(key, str(value)) for key, value in facts.items()],
        "commands": "\n".join(_list_commands(run)),
        "config": run.folder.config.read_text(encoding="utf-8"),
    }


def _list_commands(run: RunEvidence) -> list[str]:
    """Lists the commands that reproduce the run, from the checkout to the evaluation."""
    training, evaluation = run.record["provenance"], run.provenance
    commit = (training["commit"] or "").removesuffix("+changes")
    checkout = [f"git checkout {commit}"] if commit else []
    commands = [shlex.join(["distill", *provenance["command"][1:]]) for provenance in (training, evaluation)]
    return [*checkout, _format_encode_command(run), *commands]


def _format_encode_command(run: RunEvidence) -> str:
    """Formats the command that reproduces the store, or a comment if no command can."""
    data = run.config["data"]
    maker = Maker.from_json(run.provenance["teacher"], f"{run.name}: results.json")
    if not maker.is_loadable:
        return f"# {data['store']}: vectors of {maker.name}, which {maker.describe_origin()}"
    source = data["source"]
    words = ["distill", "encode", "--teacher", maker.name, "--source", source["class_path"]]
    for key, value in source["init_args"].items():
        if value is not None:
            words += [f"--source.{key}", str(value)]
    for key in ("precision", "pooling", "normalize", "prompts"):
        value = getattr(maker, key)
        if value is not None:
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    if data["queries"]:
        words += ["--queries", f"[{','.join(data['queries'])}]"]
    return shlex.join([*words, "--out", data["store"]])
