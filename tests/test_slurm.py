"""`tiltcli new slurm` on a real Slurm: tasks warned, requeued and cancelled; the same tables."""

import json
import subprocess

import pytest

import slurm
import tiltcli
from helpers import GRID, same_tables, tilt, write_grid

SHARDS = 3
LONG = (
    GRID.replace("seeds = 3", "seeds = 30")
    .replace("epochs = 200", "epochs = 40000")
    .replace("log_every = 50", "log_every = 8000")
)
JOBS = 2 * 3 * 30


def script(folder, *words):
    made = tilt("new", "slurm", "--shards", SHARDS, "--cpus", 1, "--mem", "1G", *words, cwd=folder)
    assert made.returncode == 0, made.stderr
    (folder / "job.sh").write_text(made.stdout)
    return made.stdout


def facts(folder):
    return json.loads(tilt("runs", "grid", "--format", "json", cwd=folder).stdout)


def test_an_array_whose_tasks_are_warned_requeued_and_cancelled(tmp_path):
    if absent := slurm.missing():
        pytest.skip(f"NOT TESTED: no Slurm here ({', '.join(absent)}); apt-get install slurm-wlm")
    write_grid(tmp_path, LONG)
    script(tmp_path)

    def written(shard):
        return list((tmp_path / "results" / "grid" / "jobs").glob(f"s{shard}of{SHARDS}*"))

    def log(shard):
        return (tmp_path / f"grid-{job}_{shard}.log").read_text()

    with slurm.Slurm() as cluster:
        job = cluster.submit("job.sh", cwd=tmp_path)
        for shard in (1, 2, 3):
            cluster.wait(lambda shard=shard: written(shard))
        # 1: warned that its time is nearly over. 2: sent back by an operator. 3: not wanted.
        cluster.ask("scancel", "--batch", "--signal=TERM", f"{job}_1")
        cluster.ask("scontrol", "requeue", f"{job}_2")
        cluster.ask("scancel", f"{job}_3")
        cluster.wait(lambda: "back to the queue (1 of at most" in log(1))
        cluster.wait(lambda: not cluster.state(f"{job}_3"))
        cluster.wait(lambda: not cluster.state(job))
        for shard in (1, 2):
            # Stopped cleanly, went back, and its log went on; nothing was done twice.
            second = log(shard).partition("the same command resumes\n")[2]
            assert "were done before" in second, log(shard)
            assert "removed what a killed run left" not in second
        assert "back to the queue" not in log(2) + log(3)
        halfway = facts(tmp_path)
        assert halfway["missing"] > 0  # of the cancelled task only: it has not come back by itself
        again = cluster.submit("job.sh", cwd=tmp_path)
        cluster.wait(lambda: not cluster.state(again))
    assert facts(tmp_path)["missing"] == 0
    here = tilt("sweep", "grid.toml", "--results", "here", cwd=tmp_path)
    assert here.returncode == 0
    same_tables(tiltcli.read("grid", tmp_path / "results"), tiltcli.read("grid", tmp_path / "here"))


def test_the_script_fits_the_grid(tmp_path):
    write_grid(tmp_path)  # 18 jobs
    text = script(tmp_path, "--grid", "grid.toml", "--partition", "long", "--time", "1-00:00:00")
    for line in ("--array=1-3", "--cpus-per-task=1", "--time=1-00:00:00", "--partition=long"):
        assert f"#SBATCH {line}\n" in text
    assert "The 18 jobs of grid.toml" in text
    assert "@" not in text.replace("TERM@120", "").replace("${tiltcli[@]}", "").replace("$@", "")
    subprocess.run(["bash", "-n", "job.sh"], cwd=tmp_path, check=True)
    many = tilt("new", "slurm", "--shards", 500, cwd=tmp_path)
    assert "#SBATCH --array=1-18\n" in many.stdout  # no task without a job


def test_hostile_places_are_quoted(tmp_path):
    folder = tmp_path / "it's $(touch gone) `x`"
    folder.mkdir()
    write_grid(folder, name="a 'b' $c")
    refused = tilt("new", "slurm", "--grid", "a 'b' $c.toml", cwd=folder)
    assert refused.returncode == 2  # a run cannot be called so
    write_grid(folder, 'name = "x"\n' + GRID, name="a 'b' $c")
    made = tilt("new", "slurm", "--grid", "a 'b' $c.toml", cwd=folder)
    assert made.returncode == 0, made.stderr
    found = made.stdout.split("cd ", 1)[1]
    words = found.split(" || ")[0]
    said = subprocess.run(
        ["bash", "-c", f"printf %s {words}"], capture_output=True, text=True, check=True
    )
    assert said.stdout == str(folder)
    assert not list(folder.rglob("gone"))


def test_faults_of_the_options_and_the_grid_at_once(tmp_path):
    refused = tilt(
        *("new", "slurm", "--grid", "no.toml", "--shards", 0, "--cpus", 0),
        *("--time", "00:03:00", "--mem", "much", "--partition", "a b"),
        cwd=tmp_path,
    )
    assert refused.returncode == 2
    assert refused.stdout == ""
    for said in ("no.toml", "--shards", "--cpus", "10 minutes or more", "--mem", "--partition"):
        assert said in refused.stderr
    misplaced = tilt("new", "spiral", "--grid", "grid.toml", cwd=tmp_path)
    assert misplaced.returncode == 2
    assert "only tiltcli new slurm has" in misplaced.stderr
