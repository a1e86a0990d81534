"""Renders a report as one HTML file that contains its style, its script, Chart.js and the data of its charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
CHART_LIBRARY = "chart.umd.min.js"  # Chart.js from its npm package, MIT licence, without the link to its source map


def render_page(**content: Any) -> str:
    """Fills the template; every text in `content` is escaped, and the script draws its `charts`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    files = {name: Markup((FOLDER / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js", CHART_LIBRARY)}
    figures = json.dumps(content["charts"], allow_nan=False).replace("<", "\\u003c")  # a text with </script> would end the script
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        style=files["page.css"],
        script=files["page.js"],
        library=files[CHART_LIBRARY],
        figures=Markup(figures),
        **content,
    )
