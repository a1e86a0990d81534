"""One page of HTML about a run, or about several: report.py collects, tables.py and figures.py make its parts, page.py renders it."""
