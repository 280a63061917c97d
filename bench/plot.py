"""A small SVG picture of a few lines, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Final

from bench.table import format_figure

__all__ = ["plot_lines"]

WIDTH: Final = 640
HEIGHT: Final = 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
COLORS: Final = ("#1b6ca8", "#c8553d", "#3a7d44", "#6b4e9b")


def plot_lines(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw each line through its points; all figures are above zero.

    Example:
        >>> plot_lines("growth", {"linear": [(1, 1), (10, 10)]}).count("<polyline")
        1
    """
    points = [point for line in lines.values() for point in line]
    x_low, x_high = log10(min(x for x, _ in points)), log10(max(x for x, _ in points))
    y_low = floor(log10(min(y for _, y in points)))
    y_high = max(ceil(log10(max(y for _, y in points))), y_low + 1)

    def place(x: float, y: float) -> tuple[float, float]:
        right = (log10(x) - x_low) / ((x_high - x_low) or 1)
        up = (log10(y) - y_low) / (y_high - y_low)
        return (
            LEFT + right * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for power in range(y_low, y_high + 1):
        _, y = place(10**x_low, 10.0**power)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{format_figure(10.0**power)}</text>"
        )
    for x_value in sorted({x for x, _ in points}):
        x, _ = place(x_value, 10.0**y_low)
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x_value:g}</text>'
        )
    for number, (name, line) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(
            f'<text x="{LEFT + 10}" y="{TOP + 16 * (number + 1)}" fill="{color}">'
            f"{escape(name)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
