"""Showing an Explanation: a map over its photo, a figure, a self-contained HTML report, a strip for notebooks."""

from mmexplain.render.figure import figure, save_figure
from mmexplain.render.notebook import notebook_html
from mmexplain.render.overlay import heatmap_rgba, overlay
from mmexplain.render.report import report_html, save_report

__all__ = [
    "figure",
    "heatmap_rgba",
    "notebook_html",
    "overlay",
    "report_html",
    "save_figure",
    "save_report",
]
