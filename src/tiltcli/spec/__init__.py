"""From a grid file to jobs: settings, axes, validation, identity."""

from tiltcli.spec.jobs import Job, job_id
from tiltcli.spec.probes import QUANTITIES, ProbeSettings
from tiltcli.spec.settings import SETTINGS, Setting
from tiltcli.spec.sweep import Sweep, load_sweep, parse_sweep

__all__ = [
    "QUANTITIES",
    "SETTINGS",
    "Job",
    "ProbeSettings",
    "Setting",
    "Sweep",
    "job_id",
    "load_sweep",
    "parse_sweep",
]
