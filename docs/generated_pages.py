"""Files that are made while the site is built: the commands from their --help, what the experiments measured, and the picture of it."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "experiments" / "picture" / "retention.svg"
WIDTH = "100"  # characters of a line of help
INTRODUCTION = """# Commands

What `distill VERB --help` says. Every option is also a key of a YAML file: `--config file.yaml`, which may be repeated."""
GROUPS = {"student": "--model", "teacher": "--model (of teach)", "data": "--data", "trainer": "--trainer"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds a page to the navigation for each experiment."""
    pages = [{read_title(result): page_of(result)} for result in list_results()]
    config.nav = [*(config.nav or []), {"Measured": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to those in docs/."""
    files.append(File.generated(config, "cli.md", content=write_commands()))
    files.append(File.generated(config, "images/retention.svg", abs_src_path=str(PICTURE)))
    for result in list_results():
        files.append(File.generated(config, page_of(result), content=result.read_text(encoding="utf-8")))
    return files


def list_results() -> list[Path]:
    """The files that say what an experiment measured."""
    return sorted((ROOT / "experiments").glob("*/RESULT.md"))


def page_of(result: Path) -> str:
    """The place of an experiment's page in the site."""
    return f"measured/{result.parent.name}.md"


def read_title(result: Path) -> str:
    """The heading of a page, up to its first colon."""
    first = result.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").partition(":")[0].strip()


def write_commands() -> str:
    """The page of all verbs, and of the configurations that come with the package."""
    from distill.cli.main import VERBS

    verbs = [f"## distill {verb}\n\n{text[0].upper()}{text[1:]}.\n\n```\n{read_help(verb)}\n```" for verb, text in VERBS.items()]
    return "\n\n".join([INTRODUCTION, write_configurations(), *verbs])


def write_configurations() -> str:
    """The section of the files in conf/, with the comment at the head of each."""
    rows = ["| option | name | is |", "|---|---|---|"]
    for group, option in GROUPS.items():
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            rows.append(f"| `{option}` | `{path.stem}` | {read_comment(path)} |")
    start = "## Configurations\n\nFiles of `conf/`, which come with the package. A path to a file of your own works in their place."
    return f"{start}\n\n" + "\n".join(rows)


def read_comment(path: Path) -> str:
    """The comment lines at the head of a YAML file, as one."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).replace("|", "\\|")


def read_help(verb: str) -> str:
    """What `distill VERB --help` prints."""
    from distill.cli.main import main

    os.environ["COLUMNS"] = WIDTH
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([verb, "--help"])
    return text.getvalue().strip()
