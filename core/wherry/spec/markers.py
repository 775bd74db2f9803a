"""The two markers of pluggy: `@hookspec` states a contract, `@hookimpl` says that a method fulfils one."""

from __future__ import annotations

import pluggy

hookspec = pluggy.HookspecMarker("wherry")
hookimpl = pluggy.HookimplMarker("wherry")
