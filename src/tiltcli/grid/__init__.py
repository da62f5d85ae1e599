"""From a grid file to jobs: settings, axes, validation, identity."""

from tiltcli.grid.jobs import Job, job_id
from tiltcli.grid.probe_settings import QUANTITIES, ProbeSettings
from tiltcli.grid.run_grids import kept_grids, load_run
from tiltcli.grid.setting_types import Setting
from tiltcli.grid.settings import SETTINGS
from tiltcli.grid.sweep import Sweep, load_sweep, parse_sweep

__all__ = [
    "QUANTITIES",
    "SETTINGS",
    "Job",
    "ProbeSettings",
    "Setting",
    "Sweep",
    "job_id",
    "kept_grids",
    "load_run",
    "load_sweep",
    "parse_sweep",
]
