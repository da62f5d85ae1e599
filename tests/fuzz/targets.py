"""What reads files, each given one damaged input; only UserError may come out."""

import contextlib
import shutil
import tarfile
from pathlib import Path

import cifar
import mnist
from fuzz import runs, seeds
from fuzz.mutate import mutated
from fuzz.runs import generator
from tiltcli.errors import UserError
from tiltcli.grid import paths as spec_files

RECORDS = 20


def grid(number, folder, _):
    """The grid reader, with overrides now and then."""
    from tiltcli.grid import load_sweep

    rng = generator("grid", number)
    others = [*seeds.GRIDS, seeds.SMALL]
    path = folder / "grid.toml"
    path.write_bytes(mutated(rng.choice(others), rng, others))
    overrides = ()
    if rng.random() < 0.2:
        overrides = [mutated(b"train.seeds=3", rng).decode("utf-8", "replace")]
    load_sweep(path, overrides)


def _read(path, target):
    from tiltcli.data import load_dataset

    load_dataset(
        {
            "data.kind": "file",
            "data.path": str(path),
            "data.target": target,
            "data.split": [0.6, 0.2, 0.2] if path.stat().st_size % 2 else None,
            "data.seed": 0,
            "data.standardize": path.stat().st_size % 3 == 0,
            "model.kind": "myrtle5" if path.stat().st_size % 5 == 0 else "mlp",
            "train.dtype": "float32",
            "data.categorical": "onehot" if path.stat().st_size % 7 < 4 else "refuse",
            "data.missing": "median" if path.stat().st_size % 11 < 6 else "refuse",
        }
    )


def npz(number, folder, _):
    """Archives of arrays, as data."""
    rng = generator("npz", number)
    path = folder / "x.npz"
    if number % 3:
        content = seeds.repacked(
            rng.choice(seeds.archives()[:6]),
            lambda array: mutated(array, rng) if rng.random() < 0.5 else array,
        )
    else:
        content = rng.choice(seeds.archives())
        content = content if rng.random() < 0.2 else mutated(content, rng)
    path.write_bytes(content)
    _read(path, None)


def csv(number, folder, _):
    """Text tables."""
    rng = generator("csv", number)
    path = folder / "x.csv"
    path.write_bytes(mutated(rng.choice(seeds.csvs()), rng, seeds.csvs()))
    _read(path, "label")


def parquet(number, folder, _):
    """Parquet tables."""
    rng = generator("parquet", number)
    path = folder / "x.parquet"
    path.write_bytes(mutated(rng.choice(seeds.parquets()), rng, seeds.parquets()))
    _read(path, "label")


def cifar10(number, folder, _):
    """CIFAR-10 as a folder and as an archive, damaged inside or outside, checksum and all."""
    from tiltcli.data.pictures import read_cifar10

    rng = generator("cifar10", number)
    contents = cifar.batches(RECORDS)
    if number % 3 == 0:
        name = rng.choice(list(contents))
        contents[name] = mutated(contents[name], rng)
    if number % 2:
        place = cifar.write_folder(folder / "c", contents)
        spec_files.cifar10_digest(place)
        read_cifar10(place, records=RECORDS)
        return
    path = cifar.write_archive(folder / "c.tar.gz", contents)
    if number % 3:
        path.write_bytes(mutated(path.read_bytes(), rng))
    elif rng.random() < 0.3:
        with tarfile.open(path, "w:gz") as tar:  # a member that claims ten terabytes
            member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
            member.size = 10**13
            tar.fileobj.write(member.tobuf())
    read_cifar10(path, cifar.published(path), RECORDS)


def idx(number, folder, _):
    """MNIST's format, damaged before it is packed or after."""
    from tiltcli.data.pictures import idx_dataset

    rng = generator("idx", number)
    contents = mnist.contents()
    names = rng.sample(list(contents), rng.choice([1, 1, 2]))
    if number % 2:
        contents |= {name: mutated(contents[name], rng) for name in names}
    place = mnist.write(folder / "p", contents, packed=number % 3 > 0)
    for path in [*place.iterdir()] if number % 2 == 0 else []:
        if path.name.removesuffix(".gz") in names:
            path.write_bytes(mutated(path.read_bytes(), rng))
    spec_files.idx_digest(place)
    idx_dataset(place, seed=number)


def run(number, folder, template):
    """Run directories: read, listed, compared, drawn, resumed."""
    from typer.testing import CliRunner

    import tiltcli
    from tiltcli.cli import options
    from tiltcli.cli.commands import compare, plot, report
    from tiltcli.cli.commands import runs as listing

    assert compare and plot and report and listing  # imported, they are commands of the app
    rng = generator("run", number)
    shutil.copytree(template, folder / "results" / "run")
    runs.damage(folder / "results" / "run", rng)
    results = ["--results", str(folder / "results")]
    static, dynamical = "run@loss.kind=static", "run@loss.kind=dynamical"
    commands = [["runs"], ["runs", "run"], ["runs", "run", "--format", "json"]]
    commands += [["compare", static, dynamical], ["compare", static, dynamical, "--format", "csv"]]
    if number % 10 == 0:
        kind = rng.choice(["phase", "curves", "gamma", "trace"])
        commands.append(["plot", kind, "run", "-o", str(folder / "figure.svg")])
    if number % 40 == 1:
        commands.append(["report", "run", "-o", str(folder / "REPORT.md")])
    problems = []
    with contextlib.suppress(UserError):
        tiltcli.read("run", folder / "results")
    for words in commands:
        done = CliRunner().invoke(options.app, [*words, *results])
        if done.exception is not None and not isinstance(done.exception, UserError | SystemExit):
            problems.append((words, done.exception))
    if number % 7 == 0:
        path = folder / "run.toml"
        path.write_bytes(seeds.SMALL)
        with contextlib.suppress(UserError):
            done = tiltcli.sweep(path, results=folder / "results", workers=1)
            tables = tiltcli.read("run", folder / "results")
            assert len(tables.jobs) >= done.total
    if problems:
        words, error = problems[0]
        raise RuntimeError(" ".join(words)) from error


TARGETS = {one.__name__: one for one in (grid, npz, csv, parquet, cifar10, idx, run)}


def make_template(folder: Path) -> Path:
    """Train the small run that the damaged ones are copies of."""
    import tiltcli

    (folder / "run.toml").write_bytes(seeds.SMALL)
    tiltcli.sweep(folder / "run.toml", results=folder / "results", workers=1)
    return folder / "results" / "run"
