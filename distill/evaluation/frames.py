"""Figures as a pandas DataFrame, where pandas is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distill.records import BadInput

if TYPE_CHECKING:
    from pandas import DataFrame


def make_frame(rows: Mapping[str, Mapping[str, Any]]) -> DataFrame:
    """Makes a DataFrame with a row for each name and a column for each of its fields; refuses where pandas is missing."""
    try:
        import pandas
    except ImportError:
        raise BadInput("to_frame: pandas is not installed: pip install pandas, or use as_dict()") from None
    return pandas.DataFrame.from_dict(rows, orient="index")
