"""Describes the inputs, machine and commands of a run, so that it can be reproduced."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.encoders.maker import Maker
from distill.records import printable
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
    checkout = [quote_command(["git", "checkout", commit])] if re.fullmatch("[0-9a-f]{7,64}", commit) else []
    commands = list(dict.fromkeys(_format_command(record["command"]) for record in (training, evaluation) if any(record["command"])))
    makes_texts = is_own(training["command"]) and training["command"][1:2] in (["shrink"], ["frontier"])  # and their vectors
    return [*checkout, *([] if makes_texts else [_format_encode_command(run)]), *commands]


def is_own(words: Sequence[str]) -> bool:
    """Whether a command line is one of this package: `distill ...`, or `python -m distill ...`.

    >>> is_own(["/bin/distill", "report"]), is_own(["/lib/distill/__main__.py"]), is_own(["/lib/other/__main__.py"]), is_own([])
    (True, True, False, False)
    """
    program = Path(words[0] if words else "")
    return program.name == "distill" or program.parts[-2:] == ("distill", "__main__.py")


def _format_command(words: Sequence[str]) -> str:
    """Formats a command of this package, or a comment of what else called it.

    >>> _format_command(["/bin/distill", "report", "runs/a"]), _format_command(["make.py", "runs/a"])
    ('distill report runs/a', "# 'make.py runs/a'")
    """
    if is_own(words):
        return quote_command(["distill", *words[1:]])
    return f"# {quote_command([shlex.join(words)])}"  # quoted, as some shells read what is pasted behind # as a command


def quote_command(words: Sequence[str]) -> str:
    """Joins the words of a command into one line that a shell, into which it is pasted, reads as these words and nothing else.

    >>> quote_command(["git", "checkout", "$(touch x)\\n"])
    "git checkout '$(touch x)\\\\n'"
    """
    return shlex.join(printable(word, breaks=False) for word in words)


def _format_encode_command(run: RunEvidence) -> str:
    """Formats the command that reproduces the store, or a comment if no command can."""
    data = run.config["data"]
    maker = Maker.from_json(run.provenance["teacher"], f"{run.name}: results.json")
    if not maker.is_loadable or maker.vectors is not None:
        origin = maker.describe_origin() if maker.vectors is None else "were imported"
        reason = f"{data['store']}: vectors of {maker.name}, which {origin}"
        return f"# {quote_command([reason])}"  # quoted, as some shells read what is pasted behind # as a command
    source = data["source"]
    words = ["distill", "encode", "--teacher", maker.name, "--source", source["class_path"]]
    for key, value in (source.get("init_args") or {}).items():
        if value is not None:
            words += [f"--source.{key}", str(value)]
    for key in ("precision", "pooling", "normalize", "prompts", "trust_remote_code", "max_length", "dimensions", "weights"):
        value = getattr(maker, key)
        if value is not None:
            words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    if data["queries"]:
        words += ["--queries", f"[{','.join(data['queries'])}]"]
    return quote_command([*words, "--out", data["store"]])
