"""Bar charts as SVG."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, LABELS, BAR, GAP, TOP, LEGEND = 760, 260, 22, 10, 46, 22
SMALL_BAR = 14
TEXT_BELOW_TOP = 5
LARGE = 100
# From light to dark, so that a row of bars reads as steps.
OURS = ("#93b4f5", "#6f9bf2", "#4a80ee", "#2563eb", "#1d4fc0")
THEIRS = ("#cbd5e1", "#b4c0cf", "#94a3b8", "#748398", "#5b6a80")


def bars(title: str, values: Mapping[str, Mapping[str, float]]) -> str:
    """Return a chart: for each label one bar for each of its series, as long as its value; ours stand out."""
    series = list(dict.fromkeys(name for of in values.values() for name in of))
    longest = max(value for of in values.values() for value in of.values())
    bar = BAR if len(series) == 1 else SMALL_BAR
    top = TOP + (LEGEND if len(series) > 1 else 0)
    height = top + len(values) * (bar * len(series) + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{GAP}" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    if len(series) > 1:
        parts += legend(series)
    for label, of in values.items():
        parts += group(label, of, series, top=top, bar=bar, scale=(WIDTH - LABELS - 90) / longest)
        top += bar * len(series) + GAP
    return "\n".join([*parts, "</svg>\n"])


def legend(series: Sequence[str]) -> list[str]:
    """Return what tells the series apart: a square and a name for each."""
    step = (WIDTH - 2 * GAP) / len(series)
    return [
        f'<rect x="{GAP + index * step:.0f}" y="38" width="10" height="10" fill="{shade(THEIRS, index, series)}"/>'
        f'<text x="{GAP + 15 + index * step:.0f}" y="47">{escape(name)}</text>'
        for index, name in enumerate(series)
    ]


def group(
    label: str, of: Mapping[str, float], series: Sequence[str], *, top: float, bar: int, scale: float
) -> list[str]:
    """Return the bars of one label, from `top` down."""
    colors = OURS if label.startswith("ayb-jobs") else THEIRS
    middle = top + bar * len(series) / 2 + TEXT_BELOW_TOP
    parts = [f'<text x="{LABELS - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>']
    for index, name in enumerate(series):
        if name in of:
            above, length = top + index * bar, of[name] * scale
            color = shade(colors, index, series)
            parts += [
                f'<rect x="{LABELS}" y="{above:.0f}" width="{length:.1f}" height="{bar - 1}" rx="2" fill="{color}"/>',
                f'<text x="{LABELS + length + 6:.1f}" y="{above + bar / 2 + 4:.0f}">{number(of[name])}</text>',
            ]
    return parts


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= LARGE else f"{value:.3g}"


def shade(colors: Sequence[str], index: int, series: Sequence[str]) -> str:
    """Return the color of one of so many series."""
    return colors[3] if len(series) == 1 else colors[index * (len(colors) - 1) // (len(series) - 1)]
