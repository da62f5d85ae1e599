"""CIFAR-10's binary format, read and fetched: with all that goes wrong on the way."""

import errno
import functools
import http.server
import io
import os
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from cifar import NAMES, batches, published, write_archive, write_folder
from helpers import tilt, write_grid
from tiltcli.data import fetch, load_dataset
from tiltcli.data.fetch import fetched
from tiltcli.data.pictures import CIFAR10, cifar10_dataset, read_cifar10
from tiltcli.errors import UserError
from tiltcli.grid.paths import cifar10_digest

RECORDS = 100


@pytest.fixture
def small(tmp_path):
    return write_archive(tmp_path / "small.tar.gz", batches(RECORDS))


def test_what_is_published():
    """As the data set's page and everybody's checksums have it."""
    assert CIFAR10.size == 170_052_171
    assert CIFAR10.sha256.startswith("c4a38c50a1bc5f3a") and len(CIFAR10.sha256) == 64


def test_archive_and_folder_hold_the_same(tmp_path, small):
    contents = batches(RECORDS)
    folder = write_folder(tmp_path / "there" / "cifar-10-batches-bin", contents)
    from_archive = read_cifar10(small, published(small), RECORDS)
    for place in (folder, folder.parent):
        train, test, labels = read_cifar10(place, records=RECORDS)
        assert train.X.shape == (5 * RECORDS, 3, 32, 32) and train.X.dtype == np.uint8
        np.testing.assert_array_equal(train.X, from_archive[0].X)
        np.testing.assert_array_equal(test.y, from_archive[1].y)
        assert labels == from_archive[2] == tuple(NAMES.decode().split())
    # Record 7 of the second batch, byte by byte: label, red, green, blue, rows of 32.
    record = contents["data_batch_2.bin"][7 * 3073 : 8 * 3073]
    assert train.y[RECORDS + 7] == record[0]
    for channel, row, column in [(0, 0, 0), (1, 2, 0), (2, 31, 31)]:
        at = 1 + 1024 * channel + 32 * row + column
        assert train.X[RECORDS + 7, channel, row, column] == record[at]
    assert test.X[3].tobytes() == contents["test_batch.bin"][3 * 3073 + 1 : 4 * 3073]


def test_split_is_seeded_and_in_proportion(small):
    made = functools.partial(cifar10_dataset, small, published=published(small), records=RECORDS)
    first, again, other = made(0), made(0), made(1)
    assert [len(part) for part in first.parts.values()] == [450, 50, 100]
    assert np.bincount(first.val.y).tolist() == [5] * 10
    np.testing.assert_array_equal(first.val.X, again.val.X)
    assert (first.val.X != other.val.X).any()
    np.testing.assert_array_equal(first.test.X, other.test.X)
    # Split, not resampled: all training records are there, each once.
    rows = np.concatenate([first.train.X, first.val.X]).reshape(500, -1)
    assert len(np.unique(rows, axis=0)) == 500


def test_full_size_through_the_whole_tool(tmp_path):
    """60 000 pictures from a folder: 45 000 and 5 000 of the batches, scaled by channel."""
    write_folder(tmp_path / "cifar", batches(10_000))
    data = load_dataset(
        {
            "data.kind": "cifar10",
            "data.path": str(tmp_path / "cifar"),
            "data.seed": 0,
            "data.standardize": True,
            "model.kind": "myrtle5",
            "train.dtype": "float32",
        }
    )
    assert [len(part) for part in data.parts.values()] == [45_000, 5_000, 10_000]
    assert data.train.X.dtype == np.float32 and data.sample_shape == (3, 32, 32)
    assert np.bincount(data.val.y).tolist() == [500] * 10
    means = data.train.X.mean(axis=(0, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(means, 0, atol=1e-6)


def changed(name, change):
    contents = batches(RECORDS)
    contents[name] = change(contents[name])
    return contents


def without(name):
    return {key: value for key, value in batches(RECORDS).items() if key != name}


BAD = {
    "truncated": (
        changed("data_batch_3.bin", lambda b: b[:-1]),
        "data_batch_3.bin: truncated: 307,299",
    ),
    "too long": (changed("test_batch.bin", lambda b: b + b"x"), "test_batch.bin: 307,301 bytes"),
    "empty": (changed("test_batch.bin", lambda _: b""), "test_batch.bin: truncated: 0 bytes"),
    "a strange label": (
        changed("data_batch_1.bin", lambda b: b[: 3073 * 4] + b"\x0a" + b[3073 * 4 + 1 :]),
        "data_batch_1.bin: record 5 has the label 10; allowed: 0 to 9",
    ),
    "a missing batch": (without("data_batch_5.bin"), "lacks data_batch_5.bin"),
    "no names": (without("batches.meta.txt"), "lacks batches.meta.txt"),
    "nine names": (changed("batches.meta.txt", lambda b: b[4:]), "batches.meta.txt: holds 9 names"),
    "many names": (changed("batches.meta.txt", lambda b: b * 1000), "batches.meta.txt: holds 0"),
}


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize("name", BAD)
def test_bad_contents(tmp_path, name, kind):
    contents, words = BAD[name]
    if kind == "folder":
        place = write_folder(tmp_path / "c", contents)
        if name == "a missing batch":
            assert (place / "data_batch_1.bin").exists()
        with pytest.raises(UserError) as caught:
            read_cifar10(place, records=RECORDS)
    else:
        place = write_archive(tmp_path / "c.tar.gz", contents)
        with pytest.raises(UserError) as caught:
            read_cifar10(place, published(place), RECORDS)
    assert words in str(caught.value)


def test_all_faults_at_once(tmp_path):
    contents = changed("data_batch_3.bin", lambda b: b[:5])
    del contents["data_batch_5.bin"], contents["batches.meta.txt"]
    with pytest.raises(UserError) as caught:
        read_cifar10(write_folder(tmp_path / "c", contents), records=RECORDS)
    assert len(caught.value.faults) == 2
    assert "lacks data_batch_5.bin, batches.meta.txt" in str(caught.value)


def test_archives_that_are_not_the_published_one(tmp_path, small):
    wanted = published(small)
    whole = small.read_bytes()
    for content, words in [
        (whole[:-100], "truncated: "),
        (b"", "truncated: 0 of"),
        (whole + b"x", "not the published file"),
        (whole[:500] + b"!" + whole[501:], "damaged or not the published file: its SHA-256 is"),
    ]:
        small.write_bytes(content)
        with pytest.raises(UserError, match=r"needed: cifar-10-binary\.tar\.gz") as caught:
            read_cifar10(small, wanted, RECORDS)
        assert words in str(caught.value)
    with pytest.raises(UserError, match=r"truncated: .* of 170,052,171 bytes"):
        read_cifar10(small)


def test_a_damaged_archive_with_its_own_checksum(tmp_path, small):
    whole = bytearray(small.read_bytes())
    for damaged in (whole[: len(whole) // 2], b"nothing of the kind", whole[:40] + whole[50:]):
        small.write_bytes(bytes(damaged))
        with pytest.raises(UserError, match=r"a damaged archive|lacks data_batch_4"):
            read_cifar10(small, published(small), RECORDS)


def test_only_exact_names_and_plain_files_are_read(tmp_path):
    """Links, other folders and paths that climb are passed over; nothing is ever extracted."""
    path = write_archive(tmp_path / "c.tar.gz", batches(RECORDS), folder="../cifar-10-batches-bin")
    with pytest.raises(UserError, match="lacks data_batch_1"):
        read_cifar10(path, published(path), RECORDS)
    with tarfile.open(path, "w:gz") as tar:
        for name in batches(1):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
    with pytest.raises(UserError, match="lacks data_batch_1"):
        read_cifar10(path, published(path), RECORDS)
    assert [p.name for p in tmp_path.iterdir()] == ["c.tar.gz"]


@pytest.mark.parametrize("path", ["nope", "."])
def test_nothing_there(tmp_path, path):
    with pytest.raises(UserError, match=r"cannot be read: (No such file|holds neither)"):
        read_cifar10(tmp_path / path)


def test_identity_is_the_content_not_the_place(tmp_path, small):
    contents = batches(RECORDS)
    here = write_folder(tmp_path / "a", contents)
    there = write_folder(tmp_path / "b" / "cifar-10-batches-bin", contents)
    assert cifar10_digest(here) == cifar10_digest(there.parent)
    write_folder(here, changed("test_batch.bin", lambda b: b[::-1]))
    assert cifar10_digest(here) != cifar10_digest(there)
    # Of archives only the published one is ever read: its name says all.
    assert cifar10_digest(small) is None


class Server(http.server.BaseHTTPRequestHandler):
    """Stands in for the network, in several moods."""

    def do_GET(self):
        content, mood = self.server.content, self.server.mood
        if mood == "missing":
            self.send_error(404)
            return
        self.send_response(200)
        if mood not in ("no length", "endless"):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if mood == "breaks off":
            content = content[: len(content) // 2]
        elif mood == "other":
            content = content[:-1] + bytes([content[-1] ^ 1])
        elif mood == "endless":
            while True:
                self.wfile.write(content)
        if mood == "stalls":
            self.wfile.write(content[:1000])
            self.wfile.flush()
            time.sleep(1.5)
            return
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(small):
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.content, made.mood = small.read_bytes(), ""
    made.handle_error = lambda *_: None  # the client hangs up on purpose
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def wanted(small, server):
    return published(small, f"http://127.0.0.1:{server.server_port}/c.tar.gz")


def left(folder):
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_fetched_once_with_progress(tmp_path, small, server, wanted):
    seen = []
    cache = tmp_path / "deep" / "cache"
    path = fetched(wanted, cache, lambda done, size: seen.append((done, size)))
    assert path.read_bytes() == small.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o644
    assert seen[-1] == (wanted.size, wanted.size) and seen == sorted(seen)
    server.mood = "missing"
    assert fetched(wanted, cache) == path  # not asked again
    data = cifar10_dataset(None, 0, published=wanted, records=RECORDS, cache=cache)
    assert len(data.train) == 450
    assert left(cache) == [wanted.filename]


def test_a_damaged_file_in_the_cache_is_fetched_anew(tmp_path, small, wanted):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / wanted.filename).write_bytes(small.read_bytes()[:-7])
    (tmp_path / "cache" / "tmpq1w2e3").write_bytes(b"of a killed process")
    path = fetched(wanted, tmp_path / "cache", lambda *_: None)
    assert path.read_bytes() == small.read_bytes()
    assert left(tmp_path / "cache") == [wanted.filename]


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("missing", "the server answered 404"),
        ("breaks off", "cannot be fetched from|broke off at"),
        ("other", "is not the published file"),
        ("endless", "sends more than the"),
        ("stalls", "cannot be fetched from"),
    ],
)
def test_failed_downloads_leave_nothing(tmp_path, server, wanted, mood, words, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.5)
    server.mood = mood
    with pytest.raises(UserError, match=words):
        fetched(wanted, tmp_path / "cache", lambda *_: None)
    assert left(tmp_path / "cache") == []


def test_a_broken_off_stream_without_length(tmp_path, server, wanted):
    server.mood = "no length"
    server.content = server.content[:2000]
    with pytest.raises(UserError, match=r"broke off at 2,000 of .* run the same command again"):
        fetched(wanted, tmp_path / "cache", lambda *_: None)
    assert left(tmp_path / "cache") == []


def test_no_room(tmp_path, wanted, monkeypatch):
    class Full(fetch._Downloader):
        def write(self, chunk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_Downloader", Full)
        with pytest.raises(UserError, match="the disk is full"):
            fetched(wanted, tmp_path / "cache", lambda *_: None)
    assert left(tmp_path / "cache") == []
    usage = fetch.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="no room for it: 10 bytes are free"):
        fetched(wanted, tmp_path / "cache", lambda *_: None)
    assert left(tmp_path / "cache") == []


def test_interrupted(tmp_path, wanted):
    def interrupt(done, size):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetched(wanted, tmp_path / "cache", interrupt)
    assert left(tmp_path / "cache") == []


def test_a_cache_that_is_no_folder(tmp_path, wanted):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be stored there|cannot be read"):
        fetched(wanted, tmp_path / "cache", lambda *_: None)


GRID = """
[data]
kind = "cifar10"
[model]
kind = "mlp"
width = 2
[loss]
kind = "static"
[train]
epochs = 1
batch_size = 512
seeds = 1
"""


def test_without_network_the_tool_says_what_to_do(tmp_path):
    write_grid(tmp_path, GRID)
    away = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_PROXY": ""}
    away |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    refused = tilt("sweep", "grid.toml", cwd=tmp_path, extra_env=away)
    assert refused.returncode == 2
    said = refused.stderr
    assert "cannot be fetched from https://www.cs.toronto.edu" in said
    assert "put cifar-10-binary.tar.gz (170,052,171 bytes" in said and "data] path" in said
    assert str(tmp_path / "cache" / "tiltcli") in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()
    assert left(tmp_path / "cache" / "tiltcli") == []
    shown = tilt("sweep", "grid.toml", "--dry-run", cwd=tmp_path, extra_env=away)
    assert shown.returncode == 0, shown.stderr
    assert "1 jobs" in shown.stdout and "to be fetched first: cifar-10-binary" in shown.stdout


def test_a_wrong_archive_is_refused_by_the_tool(tmp_path, small):
    write_grid(tmp_path, GRID.replace('"cifar10"', f'"cifar10"\npath = "{small.name}"'))
    refused = tilt("sweep", "grid.toml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "truncated" in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "results").exists()


class Screen(io.StringIO):
    """A terminal's stream."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "bar"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_download_is_shown_as_the_user_wants(monkeypatch, environment, bar):
    for name, value in {"NO_COLOR": "", "TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", Screen())
    report = fetch._on_stderr(fetch.Published("it", "it.tar", "", 1000, ""))
    for done in (500, 1000):
        report(done, 1000)
    shown = sys.stderr.getvalue()
    assert ("\r" in shown, "━" in shown) == (bar, bar)
    assert "100%" in shown
