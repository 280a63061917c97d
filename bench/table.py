"""Markdown tables of figures, and sizes as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["format_figure", "format_ratio", "format_size", "markdown_table", "parse_size"]

_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


def parse_size(text: str) -> int:
    """Return the number that ``text`` spells; ValueError if it is none above zero.

    Example:
        >>> parse_size("10k"), parse_size("1M"), parse_size("25")
        (10000, 1000000, 25)
    """
    unit = text[-1:] if text[-1:] in _UNITS else ""
    size = int(text.removesuffix(unit)) * _UNITS[unit]
    if size < 1:
        raise ValueError(f"a size must be at least 1, got {text}")
    return size


def format_size(size: int) -> str:
    """Spell a number the way ``parse_size`` reads it.

    Example:
        >>> format_size(10_000), format_size(1_000_000), format_size(1_024)
        ('10k', '1M', '1024')
    """
    for unit in ("M", "k"):
        count, rest = divmod(size, _UNITS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return str(size)


def format_figure(figure: float) -> str:
    """Three significant digits at least, without an exponent.

    Example:
        >>> format_figure(0.04218), format_figure(2.5), format_figure(417.3), format_figure(1234567)
        ('0.0422', '2.50', '417', '1,234,567')
        >>> format_figure(0)
        '0'
    """
    if not figure:
        return "0"
    if figure >= 100:
        return f"{figure:,.0f}"
    decimals = 1 if figure >= 10 else 2 if figure >= 1 else 3 if figure >= 0.1 else 4
    return f"{figure:.{decimals}f}"


def format_ratio(figures: Sequence[float]) -> str:
    """The last figure in terms of the first.

    Example:
        >>> format_ratio([2.0, 3.0, 5.0])
        '2.5×'
    """
    return f"{figures[-1] / figures[0]:.1f}×"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures.

    Example:
        >>> print(markdown_table(["operation", "1k"], [["track", "2.50"]]))
        | operation | 1k |
        |---|--:|
        | track | 2.50 |
    """
    rule = ["---", *("--:" for _ in header[1:])]
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(rule)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)
