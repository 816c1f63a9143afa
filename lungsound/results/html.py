"""A report as one HTML page with its figures inside, which needs no other file."""

import re
from base64 import b64encode
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 75em; margin: 2em auto;
       padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; margin: 1em 0; }
td, th { border-bottom: 1px solid #ddd; padding: 3px 10px; text-align: left; }
th { border-bottom-color: #888; }
img { max-width: 100%; }
"""
IMAGE = re.compile(r'(?<=<img src=")[^":]+\.png(?=")')


def report_html(folder: Path) -> str:
    """Return `report.md` of the folder of a run or a study as a page with its PNG files."""

    def embed(source: re.Match[str]) -> str:
        path = folder / source[0]
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return source[0]
        return "data:image/png;base64," + b64encode(path.read_bytes()).decode()

    markdown = (folder / "report.md").read_text("utf-8", "replace")
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    title = escape(folder.resolve().name)
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"<!doctype html>\n{head}\n{IMAGE.sub(embed, body)}"
