"""The execs of an engine as they are: made, running, ended. Thread-safe; an end is final, whoever speaks later.

    made ── begin ──▶ running ── started (its pid) ──▶ running ── end ──▶ ended

What ended can still be asked for: clients ask for the exit code after they saw the end of the output.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Final

from wherry.errors import Conflict, NotFound
from wherry.spec.frontend import ExecView

KEPT: Final = 512
"""Ended execs that can still be inspected, per engine."""
MADE: Final = 4096
"""Execs that were made and never started, per engine; then the oldest is forgotten."""


class Execs:
    def __init__(self) -> None:
        self._views: dict[str, ExecView] = {}
        self._lock = threading.Lock()

    def get(self, exec_id: str) -> ExecView:
        """NotFound."""
        try:
            return self._views[exec_id]
        except KeyError:
            raise NotFound("exec instance", exec_id) from None

    def known(self, exec_ids: Sequence[str]) -> list[str]:
        """Those that were not forgotten."""
        return [each for each in exec_ids if each in self._views]

    def add(self, view: ExecView) -> ExecView:
        """Take a new one, or one that ran before this engine did; of one that is known, what is known stays."""
        with self._lock:
            known = self._views.setdefault(view.id, view)
            self._forget()
        return known

    def begin(self, exec_id: str) -> ExecView:
        """It is being started. Conflict if it was already."""
        with self._lock:
            view = self.get(exec_id)
            if view.exit_code is not None:
                raise Conflict(f"Error: Exec command {exec_id} has already run")
            if view.running:
                raise Conflict(f"Error: Exec command {exec_id} is already running")
            return self._put(dataclasses.replace(view, running=True))

    def started(self, exec_id: str, pid: int) -> ExecView:
        """Its process is there; it may have ended since."""
        with self._lock:
            view = self.get(exec_id)
            return self._put(dataclasses.replace(view, pid=pid)) if view.running else view

    def end(self, exec_id: str, code: int) -> ExecView | None:
        """It has ended, or could not be started; None if that was known, or it was never begun."""
        with self._lock:
            view = self._views.get(exec_id)
            if view is None or not view.running:
                return None
            # Behind all that ended before: the oldest is the first to be forgotten.
            del self._views[exec_id]
            ended = self._put(dataclasses.replace(view, running=False, exit_code=code, pid=0))
            self._forget()
            return ended

    def resize(self, exec_id: str, rows: int, columns: int) -> ExecView:
        """Note a size; the exec has a terminal to be told of it if the answer has a pid. Conflict: it has ended."""
        with self._lock:
            view = self.get(exec_id)
            if view.exit_code is not None:
                raise Conflict(f"exec {exec_id} is not running")
            request = dataclasses.replace(view.request, console_size=(rows, columns))
            return self._put(dataclasses.replace(view, request=request))

    def drop(self, exec_id: str) -> None:
        with self._lock:
            self._views.pop(exec_id, None)

    def _put(self, view: ExecView) -> ExecView:
        self._views[view.id] = view
        return view

    def _forget(self) -> None:
        if len(self._views) <= KEPT:
            return
        ended = [key for key, view in self._views.items() if view.exit_code is not None]
        made = [key for key, view in self._views.items() if view.exit_code is None and not view.running]
        for key in (*ended[: max(0, len(ended) - KEPT)], *made[: max(0, len(made) - MADE)]):
            del self._views[key]
