"""The site of the documentation: `make docs`. Nothing of it is fetched from the internet.

Two parts are generated at each build, into `docs/reference/`: a page for each module of the library, from its
docstrings, and the page of the configuration's keys.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from schema_page import page

import eat

project = "EAT"
author = "the maintainers of EAT"
copyright = author
version = release = eat.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.apidoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_site", "reference/api/modules.rst"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
default_role = "code"
# code without a language is plain text: files, equations, what a command printed
highlight_language = "none"

myst_heading_anchors = 3
# pages of `eat bench` have no headings of the second level; names in annotations are short, and classes share some
suppress_warnings = ["myst.header", "ref.python"]

apidoc_modules = [
    {
        "path": str(ROOT / "eat"),
        "destination": "reference/api",
        "separate_modules": True,
        "module_first": True,
        "max_depth": 4,
    }
]
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# imported by the commands that need them; the site is built without
autodoc_mock_imports = ["onnx", "onnxruntime"]
python_display_short_literal_types = True

html_theme = "pydata_sphinx_theme"
html_title = "EAT"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_depth": 3,
    "navbar_end": ["theme-switcher"],
    "footer_end": [],
    "pygments_light_style": "default",
    "pygments_dark_style": "github-dark",
}
# pages without others beside them
html_sidebars = {"index": [], "tutorial": [], "own_study": []}
html_copy_source = False
html_show_sourcelink = False


def write_schema_page(*_: object) -> None:
    """Write the page of the configuration's keys, if it changed: an equal file keeps its date."""
    text = page(json.loads((ROOT / "config" / "schema.json").read_text(encoding="utf-8")))
    file = ROOT / "docs" / "reference" / "configuration.md"
    file.parent.mkdir(exist_ok=True)
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


def as_restructured_text(app: Any, what: str, name: str, thing: object, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with names in backticks: turn each paragraph into reStructuredText."""
    paragraphs = re.split(r"\n(?:[ ]*\n)+", "\n".join(lines).strip("\n"))
    lines[:] = [*"\n\n".join(map(_paragraph, paragraphs)).split("\n"), ""]


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    # equations and tables of files stay as they are written
    if all(line.startswith("    ") for line in lines) or all(re.search(r"\S {2,}\S", line) for line in lines):
        return "\n".join(["::", "", *(f"    {line}" for line in lines)])
    if any(re.match(r"[*-] ", line) for line in lines):
        # what continues an entry is indented as its text is
        lines = [line if re.match(r"[*-] |  ", line) or line == lines[0] else f"  {line}" for line in lines]
    return "\n".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    """A line without what reStructuredText takes for markup, names in backticks apart."""
    mark = re.match(r"\s*[*-] ", line)
    start = mark.end() if mark else 0
    parts = re.split(r"(`[^`]*`)", line[start:])
    return line[:start] + "".join(
        part if part.startswith("`") else re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts
    )


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("builder-inited", write_schema_page, priority=100)
    app.connect("autodoc-process-docstring", as_restructured_text)
