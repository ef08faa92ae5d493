"""The Jinja environments for LaTeX and HTML. All text is escaped; undefined or unrounded values are errors."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
from jinja2.runtime import Undefined
from markupsafe import Markup

from eat.errors import EatError
from eat.report import latex


def latex_environment(templates: Path | str) -> jinja2.Environment:
    """Templates with `<< value >>` and `<% statement %>`; strings are escaped for LaTeX, undefined values fail."""
    environment = jinja2.Environment(
        **_common(templates),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        autoescape=False,  # Jinja's own escaping is HTML's; `finalize` escapes for LaTeX
        finalize=lambda value: latex.escape_latex(_text(value)) if not isinstance(value, Undefined) else value,
    )
    environment.filters["table"] = latex.to_latex
    return environment


def html_environment(templates: Path | str) -> jinja2.Environment:
    """Templates of HTML: every string is escaped, undefined values are errors."""
    environment = jinja2.Environment(
        **_common(templates), autoescape=True, finalize=lambda value: _unbroken(_text(value))
    )
    environment.filters["name_and_rest"] = name_and_rest
    return environment


def name_and_rest(caption: str) -> tuple[str, str]:
    """A caption in two parts: up to its first colon or full stop, which names the table, and all after it."""
    end = re.search(r"[.:](?=\s)", caption)
    return (caption[: end.end()], caption[end.end() :].lstrip()) if end else (caption, "")


def _common(templates: Path | str) -> dict[str, Any]:
    loader = jinja2.FileSystemLoader(templates)
    kept = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return {"loader": loader, "undefined": jinja2.StrictUndefined, **kept}


def style_and_script(templates: Path) -> dict[str, str]:
    """The style and script that a page contains. The digest restricts the browser to this script."""
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_digest": digest}


def _unbroken(value: Any) -> Any:
    """Put a no-break space between a number and its per cent sign; HTML is returned unchanged."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", value)


def _text(value: Any) -> Any:
    """Return text (and undefined values, which raise by themselves), and refuse values that are not rounded."""
    if isinstance(value, str | Undefined):
        return value
    raise EatError(f"a template prints {value!r}, which is not text; round it with eat.rounding")


def render(environment: jinja2.Environment, name: str, context: dict[str, Any]) -> str:
    """The rendered template. Raises `EatError` if it uses an undefined value, or if there is no such template."""
    try:
        return environment.get_template(name).render(context)
    except jinja2.UndefinedError as error:
        raise EatError(f"{name}: {error}; the template does not match eat/report") from None
    except jinja2.TemplateNotFound as error:
        raise EatError(f"{error}: no such template; templates_folder must be the project's report/") from None
