"""A report as one HTML file: headings, text, tables, figures embedded, and the command that made each.

Nothing is loaded from elsewhere, so the file can be sent and kept::

    page = Page(title="Benchmarks", sections=[Section("Rounds", [Table(["owners", "seconds"], [["10", "0.2"]])])])
    path.write_text(page.render(), encoding="utf-8")
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol

__all__ = ["Block", "Command", "Figure", "Page", "Section", "Table", "Text"]

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #444; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
div.wide { overflow-x: auto; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #888; } td.number { text-align: right; white-space: nowrap; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; }
code { background: #f2f2f2; padding: 0.1rem 0.3rem; } p.command code { display: inline-block; }
"""


class Block(Protocol):
    """Something that a section shows."""

    def render(self) -> str:
        """Return it as HTML."""
        ...


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Args:
        text: plain text.
    """

    text: str

    def render(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Command:
    """The command that makes what stands beside it.

    Args:
        line: as typed.
    """

    line: str

    def render(self) -> str:
        return f'<p class="command">Made by <code>{escape(self.line)}</code></p>'


@dataclass(frozen=True)
class Figure:
    """A picture.

    Args:
        png: the file's bytes.
        caption: what it shows, in plain text.
    """

    png: bytes
    caption: str

    def render(self) -> str:
        data = base64.b64encode(self.png).decode()
        caption = escape(self.caption)
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Args:
        header: names of the columns.
        rows: cells; what looks like a number stands to the right.
        caption: what it shows.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def render(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.header)
        body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return f'<div class="wide"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Args:
        heading: plain text.
        blocks: in order.
    """

    heading: str
    blocks: Sequence[Block] = field(default=())

    def render(self) -> str:
        """Return it as HTML."""
        return f"<section><h2>{escape(self.heading)}</h2>{''.join(block.render() for block in self.blocks)}</section>"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report.

    Args:
        title: plain text.
        sections: in order.
    """

    title: str
    sections: Sequence[Section]

    def render(self) -> str:
        """Return the whole page."""
        body = "".join(section.render() for section in self.sections)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{_STYLE}</style></head>"
            f"<body><h1>{escape(self.title)}</h1>{body}</body></html>\n"
        )


def _cell(text: str) -> str:
    number = bool(text) and (text[0].isdigit() or (text[0] in "+-\u2212" and text[1:2].isdigit())) and len(text) < 24
    return f'<td class="number">{escape(text)}</td>' if number else f"<td>{escape(text)}</td>"
