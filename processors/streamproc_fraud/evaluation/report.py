"""The evaluation for people: beside what others reach, and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.table import Table

from streamproc import ConfigError
from streamproc_fraud.evaluation.protocol import Array, Quality, precision_recall

__all__ = ["REFERENCES", "comparison", "plot"]

REFERENCES: Final = (
    ("perfect knowledge of the labels", 1.0, 1.0, 0.397),
    ("constant score", 0.5, 0.007, 0.016),
    ("rule amount > 220", 0.561, 0.128, 0.064),
    ("score = amount", 0.58, 0.138, 0.067),
    ("decision tree of depth 2", 0.763, 0.496, 0.241),
    ("decision tree, unlimited", 0.788, 0.309, 0.241),
    ("XGBoost", 0.838, 0.563, 0.246),
    ("logistic regression", 0.870, 0.605, 0.291),
    ("random forest, 100 trees", 0.867, 0.658, 0.287),
)
"""The handbook's models on the same test week, refitted: AUC, average precision, CP@100."""


def comparison(quality: Quality, name: str) -> Table:
    """Return the table of a model beside the references, by average precision."""
    rows = [
        *((*reference, False) for reference in REFERENCES),
        (name, quality.auc, quality.average_precision, quality.card_precision_at_100, True),
    ]
    table = Table()
    for column in ("", "AUC", "average precision", "card precision@100"):
        table.add_column(column, justify="right" if column else "left")
    for label, auc, average_precision, card_precision, is_ours in sorted(
        rows, key=lambda row: -row[2]
    ):
        style = "bold" if is_ours else ""
        figures = (f"{auc:.3f}", f"{average_precision:.3f}", f"{card_precision:.3f}")
        table.add_row(label, *figures, style=style)
    return table


def plot(labels: Array, scores: Array, quality: Quality, path: Path) -> None:
    """Draw the precision-recall curve into a PNG or SVG file.

    Raises:
        ConfigError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"a plot needs Matplotlib: pip install 'streamproc[fraud-plot]' ({error})"
        ) from None
    recall, precision = precision_recall(labels, scores)
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.step(recall, precision, where="post")
    axes.axhline(float(labels.mean()), linestyle=":", color="grey", label="share of frauds")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"Test period: average precision {quality.average_precision:.3f}")
    axes.legend()
    figure.savefig(path)
