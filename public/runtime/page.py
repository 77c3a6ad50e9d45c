"""A page of results: one HTML file with its pictures inside, which needs no network and no other file.

text = page("resnet18 on val", [Section("Classes", [table(("class", "recall"), rows)]), ...])
"""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
nav a { margin-right: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; background: #fff; }
"""


class Section(NamedTuple):
    """A heading and what stands below it."""

    title: str
    parts: Sequence[str]
    """Pieces of HTML: of `text`, `table` and `picture`."""


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
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row) + "</tr>" for row in rows]
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def picture(data: bytes, description: str) -> str:
    """The content of a PNG or JPEG file, with the words for whoever does not see it."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<p><img src="{source}" alt="{html.escape(description)}"></p>'


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
