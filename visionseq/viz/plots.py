"""Line and bar plots as PNG files. matplotlib is imported when a plot is drawn, never its window system."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from visionseq.files import atomic_write


def line_plot(
    path: str | os.PathLike,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    title: str | None = None,
    xlabel: str = "",
    ylabel: str = "",
    log_x: bool = False,
    log_y: bool = False,
    x_ticks: Sequence[float] | None = None,
) -> None:
    """Draw lines over a common x into a PNG.

    Args:
        path: file to write, atomically.
        x: where the points are.
        lines: name in the legend -> values at x.
        title: text above.
        xlabel, ylabel: names and units of the axes.
        log_x, log_y: logarithmic axes.
        x_ticks: where to put ticks, written as plain numbers.
    """
    figure, axes = _figure(title, xlabel, ylabel)
    for name, values in lines.items():
        axes.plot(list(x), list(values), marker="o" if len(x) <= 20 else None, markersize=4, linewidth=1.5, label=name)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    if x_ticks is not None:
        axes.set_xticks(list(x_ticks), [f"{tick:g}" for tick in x_ticks])
        axes.minorticks_off()
    if len(lines) > 1:
        axes.legend(fontsize="small")
    _save(figure, path)


def bar_plot(
    path: str | os.PathLike,
    bars: Mapping[str, float],
    *,
    title: str | None = None,
    ylabel: str = "",
    log_y: bool = False,
) -> None:
    """Draw one bar per entry, its value written on top, into a PNG."""
    figure, axes = _figure(title, "", ylabel)
    rectangles = axes.bar(list(bars), list(bars.values()), width=0.7)
    axes.bar_label(rectangles, fmt="%.3g", fontsize="small")
    axes.set_yscale("log" if log_y else "linear")
    axes.margins(y=0.12)
    _save(figure, path)


def _figure(title: str | None, xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title or "")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: str | os.PathLike) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
