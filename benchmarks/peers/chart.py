"""A bar chart as SVG."""

from collections.abc import Mapping
from html import escape

WIDTH, LABELS, BAR, GAP, TOP = 760, 260, 22, 10, 46
OURS, THEIRS = "#2563eb", "#94a3b8"


def bars(title: str, values: Mapping[str, float]) -> str:
    """Return a chart of one bar each, as long as its value; ours stand out."""
    longest = max(values.values())
    height = TOP + len(values) * (BAR + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{GAP}" y="26" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for index, (label, value) in enumerate(values.items()):
        top = TOP + index * (BAR + GAP)
        length = (WIDTH - LABELS - 90) * value / longest
        color = OURS if label.startswith("ayb-jobs") else THEIRS
        parts += [
            f'<text x="{LABELS - 8}" y="{top + 16}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" rx="3" fill="{color}"/>',
            f'<text x="{LABELS + length + 6:.1f}" y="{top + 16}">{value:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])
