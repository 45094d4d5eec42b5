#!/usr/bin/env bash
# Everything, the slow tests and the seeded faults included. Run it before an issue is called resolved.
set -euo pipefail
cd "$(dirname "$0")/.."
bash .ci/run
uv run pytest -m slow
uv run python scripts/mutants.py --jobs 2
