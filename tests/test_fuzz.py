"""A part of the fuzzer with every test run; `cd tests && python -m fuzz 5000` is a longer one."""

import pytest

from fuzz.crew import fuzz_in_processes
from fuzz.targets import make_template

SIZES = {"grid": 1500, "npz": 300, "csv": 200, "parquet": 300, "cifar10": 100, "idx": 200}
SIZES["run"] = 12


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.mark.parametrize("target", SIZES)
def test_damaged_input(target, template):
    """Each is read or refused by UserError; within time and memory, nothing run or written."""
    found = fuzz_in_processes(target, SIZES[target], template)
    assert not found["faults"], "\n".join(fault["problem"] for fault in found["faults"][:3])
    assert found["tried"] == SIZES[target] == found["accepted"] + found["refused"]
    assert found["refused"] or target == "run"
    assert found["accepted"]  # damage so gross that nothing gets past the first check tests little


@pytest.mark.parametrize("number", [5030, 5087])
def test_damage_that_was_a_fault_once(number, template):
    """A job without metrics drawn; a metrics table without rows beside a job done twice."""
    found = fuzz_in_processes("run", 1, template, number)
    assert not found["faults"], found["faults"][0]["problem"]
