"""One process of the fuzzer: a range of inputs to one target, watched for all that must not happen.

What is watched: exceptions other than UserError, time, memory, programs started, connections made,
code unpickled, files written outside the input's own folder.
"""

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from tiltcli.errors import UserError

SECONDS = 20  # of computing: what else the machine does decides nothing
MEMORY = 1 << 30  # that a range of inputs may add to what the process had
FORBIDDEN = (
    "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect",
    "pickle.find_class", "ctypes.dlopen", "webbrowser.open",
)  # fmt: skip
COMPILER = {("copyreg", "_reconstructor"), ("builtins", "object")}


class Hang(BaseException):
    """Raised by the alarm; not an Exception, so that no reader's own handler swallows it."""


def _alarm(*_):
    raise Hang


def fuzz(target, first, count, template):
    """Return the counts and the faults; the number of the input in hand goes to stderr."""
    from fuzz.targets import TARGETS
    from tiltcli.data import limits
    from tiltcli.grid import sweep as grids

    # Within the bounds a user may really ask for a million jobs, and wait for them.
    for name in ("MOST_JOBS", "LONGEST"):
        for module in [m for m in sys.modules.values() if m and getattr(m, name, None)]:
            if getattr(module, "__name__", "").startswith("tiltcli."):
                setattr(module, name, 20_000)
    assert grids
    limits.most_bytes = lambda: 256 << 20
    base = Path(tempfile.mkdtemp(prefix="fuzz-"))
    caches = (str(Path.home() / ".cache"), str(Path.home() / ".config" / "matplotlib"))
    seen = []
    watching = False

    def hook(event, arguments):
        if not watching:
            return
        if event in FORBIDDEN:
            # A resumed run asks for its provenance: the commit, and (through platform) the machine.
            if event == "subprocess.Popen" and arguments[0] in ("git", "uname"):
                return
            if event in ("ctypes.dlopen", "os.posix_spawn", "os.fork") and target == "run":
                return
            # The compiler's own cache of kernels, which is no part of a run.
            if event == "pickle.find_class" and (
                arguments in COMPILER or str(arguments[0]).startswith("numba.")
            ):
                return
            seen.append(f"{event} {str(arguments)[:100]}")
        elif event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
            writing = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            known = (str(base), "/dev/", "/proc/", *caches)
            where = str(Path(arguments[0]).absolute())
            if writing and not where.startswith(known) and "__pycache__" not in where:
                seen.append(f"wrote {where}")

    sys.addaudithook(hook)
    signal.signal(signal.SIGPROF, _alarm)
    faults, ok, refused = [], 0, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    here = Path.cwd()
    for number in range(first, first + count):
        folder = base / str(number)
        folder.mkdir()
        sys.stderr.write(f"at {number}\n")
        sys.stderr.flush()
        seen.clear()
        problem = None
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        watching = number > first  # the first one imports what it needs
        try:
            TARGETS[target](number, folder, template)
            ok += 1
        except (UserError, FileNotFoundError) as error:
            refused += 1
            if not isinstance(error, UserError):
                problem = traceback.format_exc()
        except Hang:
            problem = f"more than {SECONDS} s of computing\n" + traceback.format_exc()
        except BaseException:
            problem = traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            watching = False
        os.chdir(here)
        if seen:
            problem = (problem or "") + "\n".join(seen)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if number > first and (peak - before) * 1024 > MEMORY:
            problem = (problem or "") + f"memory grew by {(peak - before) >> 10} MiB"
            before = peak
        if number == first:
            before = peak
        if problem:
            faults.append({"target": target, "number": number, "problem": problem[-3000:]})
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(base, ignore_errors=True)
    return {"tried": count, "accepted": ok, "refused": refused, "faults": faults}


if __name__ == "__main__":
    name, begin, number_of, run = sys.argv[1:]
    json.dump(fuzz(name, int(begin), int(number_of), Path(run)), sys.stdout)
