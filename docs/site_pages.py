"""Hooks of mkdocs: the notebook and files beside docs/ become pages of the site; links hold."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
NOTEBOOK = "docs/tutorial.ipynb"
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "benchmarks/results.md": "benchmarks.md",
    NOTEBOOK: "tutorial.md",
}
SOURCES = {page: source for source, page in PAGES.items()}
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and the notebook's stored pictures."""
    for source, page in PAGES.items():
        if source != NOTEBOOK:
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    text, resources = MarkdownExporter().from_filename(str(ROOT / NOTEBOOK))
    for name, content in {PAGES[NOTEBOOK]: text, **resources["outputs"]}.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links, which are relative to the file in the repository, into links of the site."""
    name = page.file.src_uri
    folder = posixpath.dirname(SOURCES.get(name, f"docs/{name}"))

    def site_link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        return "](" + PAGES.get(target, target.removeprefix("docs/"))

    return LINK.sub(site_link, markdown)
