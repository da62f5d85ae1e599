"""On PYTHONPATH this makes trainings go wrong, or wait, where a test wants them to.

CRASH_SEED: jobs of this seed kill the process that trains them, as native code that crashes would,
or the kernel when memory runs out.
HOLD: a file. Until it is there no training goes further than HOLD_AT pieces of work, however fast
the machine; asked to stop, it does. HOLD.PID says that process PID has one that waits.
"""

import dataclasses
import functools
import os
import signal
import time
from pathlib import Path

import tiltcli.engines as engines

_load = engines.load_engine


def _crashing(name, load):
    def train(job, data, context):
        if job["train.seed"] == int(os.environ["CRASH_SEED"]):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from load(name)(job, data, context)

    return train


def _holding(name):
    def train(job, data, context):
        pieces = 0

        def stop():
            nonlocal pieces
            pieces += 1
            while pieces > int(os.environ["HOLD_AT"]) and not Path(os.environ["HOLD"]).exists():
                Path(f"{os.environ['HOLD']}.{os.getpid()}").touch()
                if context.stop():
                    return True
                time.sleep(0.01)
            return context.stop()

        yield from _load(name)(job, data, dataclasses.replace(context, stop=stop))

    return train


if "HOLD" in os.environ:
    engines.load_engine = _holding
if "CRASH_SEED" in os.environ:
    engines.load_engine = functools.partial(_crashing, load=engines.load_engine)
