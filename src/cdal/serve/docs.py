"""A page about the interface, made from its OpenAPI description. It loads nothing."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}: interface</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
code { font-size: .95em; } pre { white-space: pre-wrap; }
summary { padding: .3rem 0; cursor: pointer; }
.verb { display: inline-block; min-width: 4.5rem; font-weight: 600; }
table { border-collapse: collapse; } td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
</style>
<h1>{{ title }} {{ version }}</h1>
<p>All routes of this server, as <a href="openapi.json">OpenAPI</a> describes them to programs.
Errors are JSON: <code>{"detail": "what was expected, what came, what to do"}</code>.</p>
{% for group, operations in groups.items() %}
<h2>{{ group }}</h2>
{% for one in operations %}
<details>
<summary><span class="verb">{{ one.method }}</span> <code>{{ one.path }}</code></summary>
<pre>{{ one.about }}</pre>
{% if one.parameters %}<table>
{% for name, place, kind, needed in one.parameters %}
<tr><td><code>{{ name }}</code><td>{{ place }}<td>{{ kind }}<td>{{ needed }}
{% endfor %}</table>{% endif %}
</details>
{% endfor %}
{% endfor %}
</html>
"""


def interface_page(openapi: dict[str, Any]) -> str:
    """The page as HTML.

    Args:
        openapi: description of the interface.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            group = next(iter(operation.get("tags", ())), "other")
            groups.setdefault(group, []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "about": operation.get("description", operation.get("summary", "")),
                    "parameters": [*_parameters(operation), *_body(operation, openapi)],
                }
            )
    about = openapi["info"]
    page = Environment(autoescape=True).from_string(_PAGE)
    return page.render(title=about["title"], version=about["version"], groups=groups)


def _parameters(operation: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            one["name"],
            one["in"],
            _kind(one.get("schema", {})),
            "needed" if one.get("required") else "",
        )
        for one in operation.get("parameters", ())
    ]


def _body(operation: dict[str, Any], openapi: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content.get("schema", {})
        if "$ref" in schema:
            schema = openapi["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
        needed = schema.get("required", ())
        rows += [
            (name, media, about.get("description", _kind(about)), "needed" * (name in needed))
            for name, about in schema.get("properties", {}).items()
        ]
        if not schema.get("properties"):
            rows.append(("the body", media, _kind(schema), "needed"))
    return rows


def _kind(schema: dict[str, Any]) -> str:
    kind = str(schema.get("type", schema.get("format", "")))
    return f"{kind} (default: {schema['default']})" if "default" in schema else kind
