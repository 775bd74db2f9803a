"""`wherry doctor`: what this machine offers and lacks. Asks no daemon."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

from wherry.cli.flags import flag
from wherry.cli.session import Session

WORDS = {"good": "ok", "lacking": "lacks", "missing": "MISSING"}


def doctor(
    session: Session,
    format: Annotated[str, flag("--format", help="json")] = "",
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only what is lacking or missing")] = False,
) -> int:
    from wherry.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if format == "json" or (quiet and finding.standing == "good"):
            continue
        print(f"{WORDS[finding.standing]:<8} {finding.subject:<16} {finding.detail}", flush=True)
        if finding.remedy:
            print(f"{'':<25} → {finding.remedy}")
    if format == "json":
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], ensure_ascii=False))
    missing = sum(finding.standing == "missing" for finding in findings)
    if missing and format != "json":
        print(f"\n{missing} of these must be there before a container can run.")
    return 1 if missing else 0
