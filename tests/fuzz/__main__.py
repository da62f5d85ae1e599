"""Run the fuzzer at length: python -m fuzz COUNT [TARGET …] [--first N]."""

import argparse
import tempfile
import time
from pathlib import Path

from fuzz.crew import fuzz_in_processes
from fuzz.targets import TARGETS, make_template


def main():
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("count", type=int, help="inputs for each target")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="default: all")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    options = parser.parse_args()
    tried = faults = 0
    with tempfile.TemporaryDirectory() as folder:
        template = make_template(Path(folder))
        for target in options.targets or TARGETS:
            started = time.monotonic()
            found = fuzz_in_processes(target, options.count, template, options.first)
            tried, faults = tried + found["tried"], faults + len(found["faults"])
            print(
                f"{target:8} {found['tried']:6} inputs: {found['accepted']} read, "
                f"{found['refused']} refused, {len(found['faults'])} faults, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
            for fault in found["faults"][:50]:
                print(f"--- {target} {fault['number']}\n{fault['problem']}", flush=True)
    print(f"{tried} inputs tried, {faults} faults")
    raise SystemExit(1 if faults else 0)


main()
