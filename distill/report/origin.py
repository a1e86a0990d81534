"""Where a run comes from: its inputs, machine and commands, so that it can be made again."""

from __future__ import annotations

import json
import shlex
from typing import Any

from distill.encoders.maker import Maker
from distill.report.evidence import RunEvidence


def describe_origin(run: RunEvidence) -> dict[str, Any]:
    """Provenance as pairs, the commands that made the run, and its configuration, as the page's template reads them."""
    trained, measured = run.record["provenance"], run.provenance
    facts = {
        "teacher": f"{measured['teacher']['name']} ({measured['teacher']['fingerprint']})",
        "student": measured["student"],
        "texts": f"documents {measured.get('documents', '-')}, queries {measured.get('texts', '-')}",
        "leakage": f"{run.record.get('removed_from_train', '?')} training queries left out, which another split asks too",
        "commit": f"{trained['commit']} (training), {measured['commit']} (evaluation)",
        "packages": ", ".join(f"{name} {version}" for name, version in measured["packages"].items()),
        "machine": ", ".join([measured["processor"], f"{measured['threads']} threads", *measured["gpus"]]),
        "time": f"{trained['time']} (training), {measured['time']} (evaluation)",
        "seed": run.record["inputs"]["seed_everything"],
    }
    return {
        "name": run.name,
        "provenance": [(key, str(value)) for key, value in facts.items()],
        "commands": "\n".join(_list_commands(run)),
        "config": run.folder.config.read_text(encoding="utf-8"),
    }


def _list_commands(run: RunEvidence) -> list[str]:
    """The commands that make the run again, from the checkout to the evaluation."""
    trained, measured = run.record["provenance"], run.provenance
    commit = (trained["commit"] or "").removesuffix("+changes")
    checkout = [f"git checkout {commit}"] if commit else []
    verbs = [shlex.join(["distill", *made["command"][1:]]) for made in (trained, measured)]
    return [*checkout, _format_encode_command(run), *verbs]


def _format_encode_command(run: RunEvidence) -> str:
    """The command that makes the store again, or a remark where no command does."""
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
