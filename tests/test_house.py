"""What the repository promises about itself: verbs, lock files, documents and the names in them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from configparser import ConfigParser
from importlib.metadata import packages_distributions
from pathlib import Path

import attrs
import pytest

from config import RateLimit, Settings
from homeserver.cli import VERBS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")])
PACKAGES = ("config", "federation", "storage", "homeserver")
LOCKS = ("runtime", "dev", "synapse", "js")
#: Hosts of package registries: whoever installs chooses their own, so no committed file names one.
REGISTRY_HOSTS = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "npmjs" + ".com", "yarnpkg" + ".com")


def _files() -> list[Path]:
    """All files of the repository; without git, all but what tools leave behind."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    hidden = {
        ".git",
        ".venv",
        ".venv-synapse",
        ".venv-js",
        "data",
        "__pycache__",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
    }
    return [file for file in ROOT.rglob("*") if file.is_file() and hidden.isdisjoint(file.relative_to(ROOT).parts)]


@pytest.mark.parametrize(
    "verb",
    [
        "setup",
        "synapse",
        "js",
        "run",
        "dev",
        "test",
        "acceptance",
        "check",
        "format",
        "fuzz",
        "bench",
        "docs",
        "lock",
        "clean",
    ],
)
def test_make_knows(verb: str) -> None:
    result = subprocess.run(["make", "--dry-run", verb], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_make_alone_tells_what_there_is() -> None:
    result = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"^run +a server on http://localhost:8008", result.stdout, re.MULTILINE)


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make test$", script.read_text(), re.MULTILINE)


def _locked(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Package → version and hashes."""
    text = (ROOT / f"requirements/{lock}.txt").read_text().replace("\\\n", " ")
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    pins = [words for words in lines if words]
    assert all("==" in words[0] for words in pins), "every line of a lock file pins one package"
    return {
        words[0].partition("==")[0].lower(): (words[0].partition("==")[2], [w for w in words[1:] if w != ";"])
        for words in pins
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_pinned_with_its_hashes(lock: str) -> None:
    for package, (version, hashes) in _locked(lock).items():
        assert re.fullmatch(r"[0-9][\w.]*", version), package
        assert hashes, package
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), package


def test_the_lock_files_agree() -> None:
    runtime, dev = _locked("runtime"), _locked("dev")
    assert {package: dev.get(package) for package in runtime} == runtime, "run `make lock`"


def _requirements() -> set[str]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    return {_canonical(re.split(r"[\[<>=~!; ]", line)[0]) for line in lines if line and not line.startswith("#")}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_declared_is_locked() -> None:
    assert _requirements() <= {_canonical(package) for package in _locked("runtime")}, "run `make lock`"


def _imported() -> set[str]:
    """The top names that the packages import from outside."""
    names: set[str] = set()
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    names.add((node.module or "").partition(".")[0])
    return names - set(sys.stdlib_module_names) - set(PACKAGES) - {"__future__"}


#: Imported, though no requirement of ours by name: they come with Twisted, and its `tls`, and with boto3.
BROUGHT = {"botocore", "cryptography", "pyopenssl", "service-identity", "zope-interface"}


def test_what_is_imported_is_declared() -> None:
    owners = packages_distributions()
    wrong = {name for name in _imported() if _requirements().union(BROUGHT).isdisjoint(map(_canonical, owners[name]))}
    assert not wrong, "add it to setup.cfg, then `make lock`"


def test_what_is_declared_is_imported() -> None:
    owners = packages_distributions()
    used = {_canonical(owner) for name in _imported() for owner in owners[name]}
    assert not _requirements() - used, "take it out of setup.cfg, then `make lock`"


def _settings(cls: type[attrs.AttrsInstance], path: str = "") -> Iterator[str]:
    """The dotted names of all settings; a rate limit counts as one."""
    for name, hint in typing.get_type_hints(cls).items():
        inner = [each for each in (hint, *typing.get_args(hint)) if attrs.has(each) and each is not RateLimit]
        if inner:
            yield from _settings(inner[0], f"{path}{name}.")
        else:
            yield path + name


def test_every_setting_is_read_somewhere() -> None:
    """A setting that nothing reads would be a promise to whoever sets it."""
    source = "".join(file.read_text() for package in PACKAGES[1:] for file in (ROOT / package).rglob("*.py"))
    unread = set()
    for setting in _settings(Settings):
        section, _, name = setting.rpartition(".")
        # Routes name their rate limit in a word; all others are attributes.
        in_a_word = section == "rate_limits" and name != "enabled"
        if not re.search(rf'"{name}"' if in_a_word else rf"\.{name}\b", source):
            unread.add(setting)
    assert unread == set()


def test_setup_describes_all_packages() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    include = setup["options.packages.find"]["include"].split()
    assert {pattern.rstrip("*") for pattern in include} == set(PACKAGES)
    assert "project" not in tomllib.loads((ROOT / "pyproject.toml").read_text()), "setup.cfg describes the package"


def test_no_file_names_a_package_registry() -> None:
    pattern = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)).encode())
    assert [str(file.relative_to(ROOT)) for file in _files() if pattern.search(file.read_bytes())] == []


_NAME = re.compile(r"`([\w.-]+(?:/[\w.*-]+)*/?)`")
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_files_that_exist(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    tops = {entry.name for entry in ROOT.iterdir()} - {"data"}
    missing = [link for link in _LINK.findall(text) if not (document.parent / link).exists()]
    for name in _NAME.findall(text):
        known_top = name.partition("/")[0] in tops and "/" in name
        a_file = "/" not in name and re.search(r"\.(py|md|yaml|toml|cfg|txt|sh|sql)$", name)
        found = any(ROOT.glob(name.rstrip("/"))) or (a_file and any(ROOT.glob(f"[!.]*/**/{name}")))
        if (known_top or a_file) and not found:
            missing.append(name)
    assert not missing


def test_documents_name_verbs_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for verb in re.findall(r"(?:`|^ *)make ([a-z]+)", text, re.MULTILINE):
            assert re.search(rf"^{verb}:", makefile, re.MULTILINE), f"{document.name}: make {verb}"
        for verb in re.findall(r"python -m homeserver ([a-z-]+)", text):
            assert verb in VERBS, f"{document.name}: {verb}"


def test_the_licence() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert "license = Apache-2.0" in (ROOT / "setup.cfg").read_text()


@pytest.mark.parametrize("fragment", sorted((ROOT / "changelog.d").glob("*.md")), ids=lambda path: path.name)
def test_news_fragments_have_a_kind(fragment: Path) -> None:
    kinds = {
        each["directory"] for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
    }
    if fragment.name != "README.md":
        number, kind, _ = fragment.name.split(".")
        assert kind in kinds
        assert number.isdigit() or number.startswith("+")
        assert fragment.read_text().strip()
