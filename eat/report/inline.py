"""An SVG file as an element of a page, reduced to elements that draw."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from markupsafe import Markup

from eat.errors import DamagedFile

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_DRAWN = {"svg", "g", "path", "use", "defs", "clipPath", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
_DRAWN |= {"text", "tspan", "title", "desc", "linearGradient", "stop", "image", "pattern"}


def inline_svg(path: Path | str, prefix: str) -> Markup:
    """Read an SVG file as an element for a page: ids get `prefix`, so that they are unique; metadata is dropped.

    Only elements that draw are kept, without event handlers and without links out of the file. Raises `DamagedFile` if
    the file is missing or incomplete.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DamagedFile(f"{path}: no such file; run the rule that plots it") from None
    except ElementTree.ParseError as error:
        raise DamagedFile(f"{path}: not a complete SVG file ({error}); delete it and run again") from None
    _keep_drawing(root, prefix)
    width = _points(root.attrib.pop("width", ""), path)
    root.attrib.pop("height", None)
    # matplotlib sets joins and caps in a style sheet, which would also affect the rest of the page
    root.set("role", "group")
    for child in root:  # outlines of letters and marks say nothing to a screen reader; the values do
        if child.get("class") != "values":
            child.set("aria-hidden", "true")
    size = f"min-width: {width:.0f}px; max-width: {1.8 * width:.0f}px"
    root.set("style", f"stroke-linejoin: round; stroke-linecap: butt; {size}")
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _points(width: str, path: Path | str) -> float:
    """The width of a figure as matplotlib writes it, `237.6pt`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)pt", width)
    if not found:
        raise DamagedFile(f"{path}: width {width!r} is not a number of points; delete it and plot it again")
    return float(found[1])


def _keep_drawing(element: ElementTree.Element, prefix: str) -> None:
    for name, value in list(element.attrib.items()):
        plain = name.rpartition("}")[2]
        if plain == "id":
            element.set(name, prefix + value)
        elif plain == "href" and value.startswith("#"):
            element.set(name, f"#{prefix}{value[1:]}")
        elif plain.startswith("on") or (plain == "href" and not value.startswith("data:image/png")):
            del element.attrib[name]
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
    for child in list(element):
        namespace, _, plain = child.tag.rpartition("}")
        if namespace != "{" + _SVG or plain not in _DRAWN:
            element.remove(child)
        else:
            _keep_drawing(child, prefix)
