"""The stream format of the API: what says, where there is no terminal, which stream some bytes belong to.

    ┌────────┬─────────┬──────────────┬───────┐
    │ stream │ 0  0  0 │ length (u32) │ bytes │      stream: 1 stdout, 2 stderr; most significant byte first
    └────────┴─────────┴──────────────┴───────┘

Source: API 1.51 ContainerAttach; moby `pkg/stdcopy`.
"""

from __future__ import annotations

import struct
from typing import Final

RAW: Final = b"application/vnd.docker.raw-stream"
MULTIPLEXED: Final = b"application/vnd.docker.multiplexed-stream"
STREAMS: Final = {"stdout": 1, "stderr": 2}

head: Final = struct.Struct(">BxxxI").pack


def stdout_frame(data: bytes) -> bytes:
    return head(STREAMS["stdout"], len(data)) + data
