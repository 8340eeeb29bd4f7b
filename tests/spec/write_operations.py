"""Writes `operations.json`: every operation of the client-server API, from a checkout of the Matrix specification.

    python tests/spec/write_operations.py PATH/TO/matrix-spec

For each operation: method, path, parameters, the schema of its body, the schemas of its answers with 200 and 401; for
each type of event, the schema of its content. Prose and examples are left out; what several refer to stands once, under
`$defs`. The schemas are the specification's own (Apache-2.0, https://github.com/matrix-org/matrix-spec);
`operations.py` reads them back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field

TARGET = Path(__file__).with_name("operations.json")
VERSION = "v1.19"
METHODS = ("get", "put", "post", "delete")
#: Members of a schema that say nothing about what is valid. Names of properties are never dropped.
PROSE = frozenset({"description", "title", "example", "examples", "summary", "externalDocs", "deprecated"})
#: Members whose own members are names, not keywords.
NAMED = frozenset({"properties", "patternProperties", "$defs"})


@define
class Reader:
    """Follows references from file to file, collecting what they point at."""

    root: Path
    """The folder `data` of the checkout."""
    definitions: dict[str, Any] = field(factory=dict)
    """Schemas that are referred to, by a name made from their file."""
    _files: dict[Path, Any] = field(factory=dict)

    def load(self, file: Path) -> Any:
        if file not in self._files:
            self._files[file] = yaml.safe_load(file.read_text("utf-8"))
        return self._files[file]

    def schema(self, value: Any, file: Path) -> Any:
        """A schema without prose, its references turned to `#/$defs/…`."""
        if isinstance(value, list):
            return [self.schema(item, file) for item in value]
        if not isinstance(value, dict):
            return value
        found: dict[str, Any] = {}
        for name, inner in value.items():
            if name == "$ref":
                found[name] = f"#/$defs/{self._definition(inner, file)}"
            elif name in NAMED:
                found[name] = {key: self.schema(one, file) for key, one in inner.items()}
            elif name not in PROSE and not name.startswith("x-"):
                found[name] = self.schema(inner, file)
        return found

    def follow(self, value: Any, file: Path) -> tuple[Any, Path]:
        """What a value is once its references are followed, and the file it stands in."""
        while isinstance(value, dict) and "$ref" in value:
            value, file = self._target(value["$ref"], file)
        return value, file

    def _target(self, reference: str, file: Path) -> tuple[Any, Path]:
        name, _, fragment = reference.partition("#")
        if name:
            file = (file.parent / name).resolve()
        value = self.load(file)
        for part in fragment.split("/")[1:]:
            value = value[part]
        return value, file

    def _definition(self, reference: str, file: Path) -> str:
        target, where = self._target(reference, file)
        fragment = reference.partition("#")[2].rpartition("/")[2]
        name = ".".join([*where.relative_to(self.root).with_suffix("").parts, *([fragment] if fragment else [])])
        if name not in self.definitions:
            self.definitions[name] = None  # it may refer to itself
            self.definitions[name] = self.schema(target, where)
        return name


def operations_of(reader: Reader, file: Path) -> Iterator[dict[str, Any]]:
    """The operations of one file of the specification, in its order."""
    document = reader.load(file)
    base = document["servers"][0]["variables"]["basePath"]["default"]
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method not in methods:
                continue
            operation = methods[method]
            found = {
                "id": operation["operationId"],
                "module": file.stem,
                "method": method.upper(),
                "path": (base + path).strip(),  # a trailing blank marks a second description of the same path
                "deprecated": operation.get("deprecated", False),
                "since": f"v{operation.get('x-addedInMatrixVersion', '1.0')}",
                "auth": _auth(operation),
                "parameters": list(
                    _parameters(reader, file, [*methods.get("parameters", []), *operation.get("parameters", [])])
                ),
            }
            if (body := _json_schema(reader, file, operation.get("requestBody"))) is not None:
                found["body"] = body
            if (answer := _json_schema(reader, file, operation["responses"].get("200"))) is not None:
                found["answer"] = answer
            if (challenge := _json_schema(reader, file, operation["responses"].get("401"))) is not None:
                found["challenge"] = challenge
            yield found


def _auth(operation: Mapping[str, Any]) -> str:
    """Whether a token must, may or need not come with it."""
    security = operation.get("security", [])
    if not security:
        return "none"
    return "optional" if {} in security else "required"


def _parameters(reader: Reader, file: Path, parameters: list[Any]) -> Iterator[dict[str, Any]]:
    for one in parameters:
        parameter, where = reader.follow(one, file)
        yield {
            "name": parameter["name"],
            "in": parameter["in"],
            "required": parameter.get("required", False),
            "schema": reader.schema(parameter.get("schema", {}), where),
        }


def _json_schema(reader: Reader, file: Path, part: Any) -> Any:
    """The schema of a body or an answer; None where it is no JSON."""
    part, where = reader.follow(part, file)
    content = (part or {}).get("content", {}).get("application/json")
    return None if content is None else reader.schema(content["schema"], where)


def contents(reader: Reader) -> dict[str, Any]:
    """Event type → schema of its content. Message types, which have files of their own, are left out."""
    found = {}
    for file in sorted((reader.root / "event-schemas/schema").glob("m.*.yaml")):
        content = reader.load(file).get("properties", {}).get("content")
        if content is not None and "$" not in file.name:
            found[file.stem] = reader.schema(content, file)
    return found


def main(checkout: Path) -> None:
    root = (checkout / "data").resolve()
    reader = Reader(root)
    operations = [
        operation
        for file in sorted((root / "api/client-server").glob("*.yaml"))
        for operation in operations_of(reader, file)
    ]
    whole = {
        "source": f"https://github.com/matrix-org/matrix-spec, {VERSION}, data; Apache-2.0",
        "operations": operations,
        "contents": contents(reader),
        "$defs": dict(sorted(reader.definitions.items())),
    }
    TARGET.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
