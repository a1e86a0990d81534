"""One HTML file that needs nothing beside it: template, style, script, Chart.js and figures are put into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHARTS = "chart.umd.min.js"  # Chart.js as its npm package holds it, MIT licence, without the link to its source map


def render_page(**content: Any) -> str:
    """The page; every text in `content` is escaped, and its `charts` are drawn by the script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    files = {name: Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js", CHARTS)}
    figures = json.dumps(content["charts"], allow_nan=False).replace("<", "\\u003c")  # no text may close the script's element
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("page.html")
    return template.render(style=files["page.css"], script=files["page.js"], library=files[CHARTS], figures=Markup(figures), **content)
