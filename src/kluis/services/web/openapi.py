"""Generate a service's OpenAPI document from its operations. Spec: OpenAPI 3.1."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

import kluis
from kluis.services.web.operation import Operation

ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}


def document(title: str, operations: tuple[Operation, ...], version: str) -> dict[str, Any]:
    """The document.

    Args:
        title: of the service.
        operations: to describe.
        version: an ``api-version``, as an example.
    """
    typed = [kind for one in operations for kind in (one.body, one.result) if _is_json(kind)]
    schemas, components = msgspec.json.schema_components(typed, ref_template="#/components/schemas/{name}")
    named = dict(zip(map(id, typed), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path.replace("*}", "}"), {})[one.method.lower()] = _operation(
            one, named, version
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": kluis.__version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(one: Operation, named: dict[int, dict[str, Any]], version: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The requested result."}
    if _is_json(one.result):
        answer["content"] = {"application/json": {"schema": named[id(one.result)]}}
    made: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "parameters": _parameters(one, version),
        "responses": {
            str(one.status): answer,
            "default": {
                "description": "Rejected; the error states what was wrong.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if one.access is not None:
        made["security"] = [{"bearer": []}]
        made["description"] = f"Wants a role that allows `{one.access}`."
    if one.body is str:
        made["requestBody"] = {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}}
    elif one.body is not None:
        schema = named[id(one.body)]
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return made


def _parameters(one: Operation, version: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\*?\}", one.path)
    ]
    made += [
        {"name": name, "in": "query", "required": required, "schema": {"type": "string"}}
        for name, required in one.query.items()
    ]
    if one.versioned:
        made.append({
            "name": "api-version", "in": "query", "required": True,
            "schema": {"type": "string", "example": version},
        })  # fmt: skip
    return made


def _is_json(kind: Any) -> bool:
    return kind is not None and kind is not str
