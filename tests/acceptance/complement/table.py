"""The table of what Complement says of this server: made from what `go test -json` writes, and compared with the last.

    python tests/acceptance/complement/table.py [--beside OTHER.tsv] STREAM.json ...

Each stream holds the results of one or more of Complement's packages. Their rows in `results.tsv` are written anew, one
for each top-level test; those of other packages stay. A test that fails keeps the reason it had ("waits for: …"); one
without a reason is named. What passes now and did not, and what passed and does not any more, is printed; with --beside
also the tests that pass in another server's table (package, test, result) and not in ours.

Exit status: 1 where a test that passed does not any more, or fails for no reason that the table knows.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

TABLE = Path(__file__).with_name("results.tsv")
COLUMNS = ("package", "test", "result", "reason")
ENDS = ("pass", "fail", "skip")

Key = tuple[str, str]
"""Package, by the last part of its path, and test."""
Row = tuple[str, str]
"""Result and reason."""


def read_stream(lines: Iterable[str]) -> dict[Key, str]:
    """Test → result, for the top-level tests of a stream. A test that begins and does not end has failed."""
    found: dict[Key, str] = {}
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # what was printed around the tests
        if not isinstance(event, dict) or not event.get("Test") or "/" in event["Test"]:
            continue
        key = (event["Package"].rpartition("/")[2], event["Test"])
        if event["Action"] in ENDS:
            found[key] = event["Action"]
        else:
            found.setdefault(key, "fail")
    return found


def read_table(path: Path) -> dict[Key, Row]:
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            (row["package"], row["test"]): (row["result"], row.get("reason") or "")
            for row in csv.DictReader(lines, delimiter="\t")
        }


def write_table(path: Path, rows: Mapping[Key, Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(COLUMNS)
        writer.writerows((*key, *rows[key]) for key in sorted(rows))


def renew(before: Mapping[Key, Row], results: Mapping[Key, str]) -> dict[Key, Row]:
    """The table after a run: all rows of the packages that ran are new, and failures keep their reasons."""
    packages = {package for package, _ in results}
    after = {key: row for key, row in before.items() if key[0] not in packages}
    for key, result in results.items():
        reason = before.get(key, ("", ""))[1]
        after[key] = (result, "" if result == "pass" else reason)
    return after


def report(before: Mapping[Key, Row], after: Mapping[Key, Row]) -> tuple[list[str], bool]:
    """What is to be said of a run, and whether all is well."""
    counts = Counter((key[0], row[0]) for key, row in after.items())
    lines = [
        f"{package}: " + ", ".join(f"{counts[package, end]} {end}" for end in ENDS)
        for package in sorted({key[0] for key in after})
    ]
    is_well = True
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key, ("", ""))[0], after.get(key, ("gone", ""))[0]
        if was == now:
            continue
        lines.append(f"{was or 'new'} → {now}: {' '.join(key)}")
        is_well &= was != "pass"
    for key in unexplained(after):
        lines.append(f"fails for no known reason: {' '.join(key)}")
        is_well = False
    return lines, is_well


def unexplained(rows: Mapping[Key, Row]) -> list[Key]:
    return sorted(key for key, (result, reason) in rows.items() if result == "fail" and not reason)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, metavar="OTHER.tsv")
    parser.add_argument("streams", nargs="+", type=Path)
    arguments = parser.parse_args()
    results: dict[Key, str] = {}
    for path in arguments.streams:
        with path.open(encoding="utf-8", errors="replace") as lines:
            found = read_stream(lines)
        if not found:
            print(f"{path}: no test in it", file=sys.stderr)
            return 2
        results.update(found)
    before = read_table(TABLE)
    after = renew(before, results)
    write_table(TABLE, after)
    lines, is_well = report(before, after)
    if arguments.beside is not None:
        other = read_table(arguments.beside)
        behind = [key for key in sorted(other) if other[key][0] == "pass" and after.get(key, ("", ""))[0] != "pass"]
        lines += [f"passes there: {' '.join(key)}: {after.get(key, ('', 'not run'))[1]}" for key in behind]
    print("\n".join(lines))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
