"""How templates become LaTeX and HTML: all text is escaped, and what is undefined or not rounded fails."""

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
    """Templates with `<< value >>` and `<% statement %>`; every string is escaped for LaTeX, undefined values fail."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Jinja's own escaping is HTML's; `finalize` escapes for LaTeX
        finalize=lambda value: latex.escape_latex(_text(value)) if not isinstance(value, Undefined) else value,
    )
    environment.filters["table"] = latex.to_latex
    return environment


def html_environment(templates: Path | str) -> jinja2.Environment:
    """Templates of HTML: every string is escaped, undefined values fail."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
        finalize=lambda value: _unbroken(_text(value)),
    )


def style_and_script(templates: Path) -> dict[str, str]:
    """What makes a page work by itself; by the script's digest a browser runs that script and no other."""
    style, script = ((templates / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_digest": digest}


def _unbroken(value: Any) -> Any:
    """Text in which no line ends between a number and its sign; what is HTML already stays as it is."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", value)


def _text(value: Any) -> Any:
    """Let text through (and what is undefined, which fails by itself), and refuse anything that nobody rounded."""
    if isinstance(value, str | Undefined):
        return value
    raise EatError(f"a template prints {value!r}, which is not text; round it with eat.rounding")


def render(environment: jinja2.Environment, name: str, context: dict[str, Any]) -> str:
    """The text of a template. Raises `EatError` where it asks for what is not there, or is not there itself."""
    try:
        return environment.get_template(name).render(context)
    except jinja2.UndefinedError as error:
        raise EatError(f"{name}: {error}; the template and eat/report do not fit together") from None
    except jinja2.TemplateNotFound as error:
        raise EatError(f"{error}: no such template; templates_folder must be the project's report/") from None
