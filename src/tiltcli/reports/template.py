"""The report's templates, filled in: what a run's texts hold is shown, and does nothing."""

from __future__ import annotations

import json
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tiltcli.errors import harmless
from tiltcli.evaluation.texts import interval, number, p_value


def render(template: str, **known: Any) -> str:
    """Fill in a template of `assets`; of a page what is text is escaped."""
    environment = Environment(
        loader=PackageLoader("tiltcli.reports", "assets"),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(signed=signed, typed=typed, packed=json_text, plain=plain)
    environment.globals.update(interval=interval, number=number, p_value=p_value)
    return environment.get_template(template).render(known)


def signed(written: str) -> str:
    """Numbers as HTML, with a minus of its own in place of the hyphen."""
    return Markup(re.sub(r"-(?=[\d.])", "−", str(escape(written))))


def typed(written: str) -> str:
    """Prose as HTML; what stands between backquotes is to be typed."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(written))))


def plain(written: str) -> str:
    """Text that Markdown shows as it is: a folder may be named anything."""
    return re.sub(r"[<>|\[\]*]", lambda found: f"&#{ord(found[0])};", harmless(written))


def json_text(page: Any) -> Markup:
    """JSON that may stand inside a <script> element: no character of it can end the element."""
    text = json.dumps(page, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
