"""Look the locked packages up in a list of known vulnerabilities by pip-audit; say so where none can be reached.

python -m tests.supply.audit PIP_AUDIT requirements-dev.txt …
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

CLEAN, VULNERABLE, FAILED = 0, 1, 2

NO_ANSWER = re.compile(r"requests\.exceptions|ConnectionError|ServiceError|ProxyError|SSLError|Timeout|connect", re.I)
"""What pip-audit's last words have in them where the list of vulnerabilities does not answer."""


def judge(output: str, complaint: str) -> tuple[int, str]:
    """Return the exit status and the text of an audit from what pip-audit printed as JSON and as its complaint.

    Packages that the list does not know were not audited, which is said; if that is so of all, nothing was audited.
    """
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        last = (complaint.strip().splitlines() or ["it printed nothing"])[-1]
        if not NO_ANSWER.search(last):
            return FAILED, f"audit failed: {last}"
        return CLEAN, f"audit skipped: the list of vulnerabilities does not answer ({last.partition(':')[0]})"
    unknown = sorted(entry["name"] for entry in found if "skip_reason" in entry)
    audited = [entry for entry in found if "skip_reason" not in entry]
    if not audited:
        return CLEAN, f"audit skipped: the list of vulnerabilities knows none of the {len(found)} packages here"
    lines = [
        f"{entry['name']} {entry['version']}: {problem['id']}, mended in {', '.join(problem['fix_versions']) or 'none'}"
        for entry in audited
        for problem in entry["vulns"]
    ]
    lines.insert(0, f"{len(audited)} packages audited, {len(lines)} known vulnerabilities")
    if unknown:
        lines.append(f"not audited, since the list does not know them: {', '.join(unknown)}")
    return (VULNERABLE if any(entry["vulns"] for entry in audited) else CLEAN), "\n".join(lines)


def main(program: str, locks: list[str]) -> int:
    """Audit lock files with the program pip-audit; return the worst exit status."""
    worst = CLEAN
    for lock in locks:
        command = [program, "--format", "json", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        done = subprocess.run([*command, "--requirement", lock], capture_output=True, text=True, check=False)
        status, text = judge(done.stdout, done.stderr)
        print(f"{lock}: {text}")
        worst = max(worst, status)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
