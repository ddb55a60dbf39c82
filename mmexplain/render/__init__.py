"""Showing an Explanation: maps over a photo or clip, a figure, a self-contained HTML report, a strip for notebooks."""

from mmexplain.render.clip import save_clip
from mmexplain.render.figure import figure, paper_figure, save_figure
from mmexplain.render.notebook import notebook_html
from mmexplain.render.overlay import heatmap_rgba, overlay
from mmexplain.render.report import report_html, save_report

__all__ = [
    "figure",
    "heatmap_rgba",
    "notebook_html",
    "overlay",
    "paper_figure",
    "report_html",
    "save_clip",
    "save_figure",
    "save_report",
]
