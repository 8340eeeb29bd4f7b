"""Settings as somebody wrote them: plain values that remember where they stood.

Three layers are laid over each other, the later one winning key by key: the profile's defaults, the YAML file, the
environment. What comes out is a tree of `Given`, which `config.parse` turns into frozen settings. Because each value
knows its place, a mistake can be reported as `homeserver.yaml, line 12`, or by the variable's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from attrs import evolve, frozen

ENVIRONMENT_PREFIX = "GUILDHALL_"

# The C parser reads a fully commented file some ten times faster; both give the same nodes.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SettingsError(ValueError):
    """Settings that cannot be used. The message names the field, what is wrong, and the place."""


@frozen
class Given:
    """One written value: a scalar, a list of `Given`, or a dict of them, with the place where it stood.

    `text` is set for values from the environment, where everything is written without quotes: a setting that wants
    text takes it as it stands ("123" is a fine secret), all others take `value`, which is the text read as YAML.
    """

    value: object
    place: str
    text: str | None = None

    def children(self) -> Iterator[tuple[str, Given]]:
        """The entries of a mapping (by key) or a list (by index); nothing for scalars."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from ((str(index), entry) for index, entry in enumerate(self.value))


def read_file(path: Path) -> Given:
    """Read a settings file. Raises SettingsError when it cannot be read, is no YAML, or is no mapping."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    given = read_yaml(text, str(path), with_lines=True)
    if not isinstance(given.value, dict):
        raise SettingsError(f"{path}: must be sections with settings below them")
    return given


def read_yaml(text: str, name: str, *, with_lines: bool = False) -> Given:
    """Read YAML text; `name` says in messages where it came from, `with_lines` adds the line to each place."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        given = _from_node(loader, node, name, with_lines) if node is not None else Given({}, name)
    except yaml.YAMLError as error:
        raise SettingsError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    except (RecursionError, ValueError) as error:
        raise SettingsError(f"{name}: cannot be understood: {error}") from None
    finally:
        loader.dispose()
    return given


def _from_node(loader: yaml.SafeLoader, node: yaml.Node, name: str, with_lines: bool, line: int = 0) -> Given:
    """`line` is where the node's key stands, if it has one: a section begins there, not at its first setting."""
    place = f"{name}, line {line or node.start_mark.line + 1}" if with_lines else name
    match node:
        case yaml.MappingNode():
            entries: dict[str, Given] = {}
            for key_node, value_node in node.value:
                key = str(getattr(key_node, "value", ""))
                given = _from_node(loader, value_node, name, with_lines, key_node.start_mark.line + 1)
                if key in entries:
                    raise SettingsError(f"{key}: stands twice ({entries[key].place} and {given.place})")
                entries[key] = given
            return Given(entries, place)
        case yaml.SequenceNode():
            return Given([_from_node(loader, entry, name, with_lines) for entry in node.value], place)
        case _:
            return Given(loader.construct_object(node), place)


def read_environment(environ: Mapping[str, str]) -> Given:
    """Gather `GUILDHALL_SECTION__FIELD=value` into a tree; lists and mappings are written as YAML on one line."""
    root: dict[str, Given] = {}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        given = evolve(read_yaml(environ[variable], variable), text=environ[variable])
        *parents, last = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        branch = root
        for parent in parents:
            below = branch.setdefault(parent, Given({}, variable)).value
            if not isinstance(below, dict):
                raise SettingsError(f"{variable} and {branch[parent].place} cannot both be set")
            branch = below
        if isinstance(given.value, dict) and last in branch:
            given = lay_over(given, branch[last])
        branch[last] = given
    return Given(root, "the environment")


def from_values(values: object, place: str) -> Given:
    """A tree out of plain Python values, all of which stood at `place`."""
    if isinstance(values, Mapping):
        return Given({str(key): from_values(value, place) for key, value in values.items()}, place)
    if isinstance(values, list | tuple):
        return Given([from_values(value, place) for value in values], place)
    return Given(values, place)


def lay_over(below: Given, above: Given) -> Given:
    """`above` where it says something, else `below`: mappings are joined key by key, all else is replaced."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        # A section whose lines are all commented out reads as null, and says nothing.
        return below if above.value is None and isinstance(below.value, dict) else above
    joined = dict(below.value)
    for key, given in above.value.items():
        joined[key] = lay_over(joined[key], given) if key in joined else given
    return Given(joined, above.place)
