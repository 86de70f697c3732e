"""A dry run: what a question would take and send, told before anything is started, asked or paid."""

from __future__ import annotations

from rlm_kernel.preflight.dry_run import Preflight, preflight
from rlm_kernel.preflight.forecast import Forecast

__all__ = ["Forecast", "Preflight", "preflight"]
