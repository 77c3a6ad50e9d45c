"""A page of results: one HTML file with its pictures inside, which needs no network and no other file.

text = page("resnet18 on val", [Section("Classes", [table(("class", "recall"), rows)]), ...])
"""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
nav a { display: inline-block; margin-right: 1rem; }
.wide { overflow-x: auto; } div.wide + div.wide { margin-top: 1rem; }
pre { overflow-wrap: anywhere; white-space: pre-wrap; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child, .words { text-align: left; }
.long { overflow-wrap: anywhere; min-width: 8rem; }
.wide td:first-child, .wide th:first-child { position: sticky; left: 0; background: Canvas; }
img { max-width: max(100%, 40rem); height: auto; background: #fff; }
.matrix td, .matrix th { padding: .1rem .4rem; text-align: center; }
.matrix th { font-weight: normal; } .matrix tbody th { text-align: right; }
.matrix thead th { writing-mode: vertical-rl; }
.matrix th div { max-inline-size: min(12rem, 35vw); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
svg { max-width: 30rem; width: 100%; } svg text { font-size: 11px; fill: currentColor; }
"""


class Section(NamedTuple):
    """A heading and what stands below it."""

    title: str
    parts: Sequence[str]
    """Pieces of HTML: of `text`, `table`, `matrix`, `chart` and `picture`."""


def page(title: str, sections: Sequence[Section]) -> str:
    """The content of the file; sections without parts are skipped."""
    shown = [section for section in sections if section.parts]
    links = "".join(f'<a href="#s{i}">{html.escape(section.title)}</a>' for i, section in enumerate(shown))
    bodies = (
        f'<h2 id="s{i}">{html.escape(section.title)}</h2>\n' + "\n".join(section.parts)
        for i, section in enumerate(shown)
    )
    name = html.escape(title)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{name}</title>\n<style>\n{STYLE}</style></head>\n<body>\n'
        f"<h1>{name}</h1>\n<nav>{links}</nav>\n" + "\n".join(bodies) + "\n</body></html>\n"
    )


def text(words: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(words)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows of words and numbers; floats have four digits, and None leaves its cell empty."""
    rows = [list(row) for row in rows]
    of_words = [any(isinstance(row[i], str) for row in rows) for i in range(len(header))]
    heads = (
        f'<th class="words">{html.escape(name)}</th>' if is_words else f"<th>{html.escape(name)}</th>"
        for name, is_words in zip(header, of_words, strict=True)
    )
    lines = ["<tr>" + "".join(heads) + "</tr>"]
    lines += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def matrix(corner: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Counts by row and column, shaded by their share of the row; zeros are left empty, and long names are cut."""
    heads = [f'<th title="{name}"><div>{name}</div></th>' for name in map(html.escape, names)]
    lines = [f"<thead><tr><td>{html.escape(corner)}</td>{''.join(heads)}</tr></thead>"]
    for head, row in zip(heads, counts, strict=True):
        shares = (count / max(1, sum(row)) for count in row)
        cells = (f'<td style="background:rgb(66 133 244 / {share:.2f})">' for share in shares)
        values = "".join(f"{cell}{count or ''}</td>" for cell, count in zip(cells, row, strict=True))
        lines.append(f"<tr>{head}{values}</tr>")
    return '<div class="wide"><table class="matrix">\n' + "\n".join(lines) + "\n</table></div>"


MOST_NAMED = 50
"""Of more rows and columns a matrix has no room for names."""
LONG_WORD = 20
"""A longer word is broken where a table has no room for it: a path, or a name in which words are joined."""
COLORS = ("#4285f4", "#db4437", "#0f9d58", "#f4b400", "#ab47bc", "#00acc1")


def chart(x: str, y: str, lines: Mapping[str, Iterable[tuple[float, float]]]) -> str:
    """Lines by name over 0..1 in both directions, with what x and y are; points that are not finite are skipped."""
    pieces = [f'<svg viewBox="0 0 480 380" role="img" aria-label="{html.escape(y)} over {html.escape(x)}">']
    for tick in range(6):
        across, down = 50 + 80 * tick, 330 - 60 * tick
        pieces.append(f'<path d="M{across} 30V330M50 {down}H450" stroke="#8884"/>')
        pieces.append(f'<text x="{across - 8}" y="346">{tick / 5}</text><text x="24" y="{down + 4}">{tick / 5}</text>')
    pieces.append(f'<text x="210" y="366">{html.escape(x)}</text><text x="24" y="18">{html.escape(y)}</text>')
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        places = [f"{50 + 400 * px:.1f},{330 - 300 * py:.1f}" for px, py in points if math.isfinite(px + py)]
        pieces.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{color}" stroke-width="2"/>')
        style = f"fill:{color}"
        pieces.append(f'<text x="{120 + 110 * number}" y="18" style="{style}">{html.escape(name)}</text>')
    return "\n".join(pieces) + "</svg>"


def picture(data: bytes, description: str) -> str:
    """The content of a PNG or JPEG file, with the words for whoever does not see it.

    It is scrolled where a narrow screen would shrink what is written in it too far to be read.
    """
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<p class="wide"><img src="{source}" alt="{html.escape(description)}"></p>'


def _cell(value: object) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, str):
        is_long = max(map(len, value.split()), default=0) > LONG_WORD
        return f'<td class="words{" long" if is_long else ""}">{html.escape(value)}</td>'
    return f"<td>{value:.4f}</td>" if isinstance(value, float) else f"<td>{html.escape(str(value))}</td>"
