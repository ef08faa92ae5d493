"""The ways to run a model on another domain: as it was chosen, refitted, more conservative, at full depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from eat.calibrate.calibration import fit_temperature
from eat.model.exit_policy import ExitPolicy, LayerThreshold
from eat.results.trace import Trace

CHOSEN, REFITTED, CONSERVATIVE, FULL_DEPTH = "as chosen", "refitted", "conservative", "full depth"


def settings_of(
    chosen: ExitPolicy, calibration: Trace | None = None, fitting: Trace | None = None
) -> dict[str, ExitPolicy]:
    """Name -> operating point, of a system whose operating point is `chosen`.

    calibration: the trace of the study's calibration split, and fitting: that of the half of the other domain; without
    them, nothing is refitted. A setting that would change nothing is left out.
    """
    found = {CHOSEN: chosen}
    if calibration is not None and fitting is not None:
        found[REFITTED] = refitted(chosen, calibration, fitting)
    if chosen.may_exit:
        if chosen.tau is not None:
            found[CONSERVATIVE] = conservative(chosen)
        found[FULL_DEPTH] = replace(chosen, rule=(), tau=None)
    return found


def refitted(chosen: ExitPolicy, calibration: Trace, fitting: Trace) -> ExitPolicy:
    """The same thresholds with temperatures T f(new) / f(old), where f is the temperature that fits a trace.

    With fitted temperatures T = f(old), and f(new) remains. If thresholds were chosen on raw probabilities, T = 1, and
    the change of domain alone is corrected, so that a threshold keeps its meaning.
    """
    temperatures = {
        depth: chosen.temperatures.get(depth, 1.0)
        * fit_temperature(logits, fitting.labels)
        / fit_temperature(calibration.logits[depth], calibration.labels)
        for depth, logits in fitting.logits.items()
    }
    return replace(chosen, temperatures=temperatures)


def conservative(chosen: ExitPolicy) -> ExitPolicy:
    """Every threshold half as far from 1: tau becomes (1 + tau) / 2."""
    if isinstance(chosen.tau, Mapping):
        return replace(chosen, tau={depth: _halfway(tau) for depth, tau in chosen.tau.items()})
    return replace(chosen, tau=None if chosen.tau is None else (1.0 + chosen.tau) / 2.0)


def _halfway(tau: LayerThreshold) -> LayerThreshold:
    return tuple((1.0 + one) / 2.0 for one in tau) if isinstance(tau, tuple) else (1.0 + tau) / 2.0
