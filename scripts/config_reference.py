"""Writes docs/config.md, the reference of all config keys, options and arguments, from conf/ and the code.

python scripts/config_reference.py            writes it
python scripts/config_reference.py --check    exit code 1 and the first differences if it is out of date
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from config_docs.page import page  # noqa: E402

DOCUMENT = HERE.parent / "docs/config.md"
_SHOWN = 20


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Writes docs/config.md from conf/ and the code.")
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    parser.add_argument("--out", metavar="FILE", type=Path, default=DOCUMENT, help="another place")
    arguments = parser.parse_args(argv)
    new = page()
    if not arguments.check:
        arguments.out.write_text(new, encoding="utf-8")
        return 0
    old = arguments.out.read_text(encoding="utf-8") if arguments.out.exists() else ""
    changed = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "committed", "now", n=0, lineterm=""))
    if changed:
        print(
            f"{arguments.out.name} is out of date; run: python scripts/config_reference.py", *changed[:_SHOWN], sep="\n"
        )
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
