"""The verb prepare: every source, nothing done twice, one line for what is wrong, nothing half-written."""

import gc
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import orjson
import psutil
import pyarrow.parquet as pq
import pytest
import ray

from helpers import processes
from helpers.other_forms import ctr_gcn_arrays, made_recordings, write_pyskl
from helpers.recordings import (
    BODY,
    REAL_DATA,
    moving_body,
    ntu_names,
    one_body_text,
    skeleton_text,
    write_ntu,
    write_ucla,
    zipped,
)
from kgan_ray import prepare
from kgan_ray.cli import run_verb
from kgan_ray.data.dataset import MANIFEST, Dataset
from kgan_ray.data.prepare.service import prepare_dataset
from kgan_ray.data.sources.ntu_files import SkeletonFiles
from kgan_ray.publishing import whole_folder
from kgan_ray.settings import UserError
from kgan_ray.storage import StorePath

LAYOUT = "name: worm\njoints: 4\nbones: [[0, 1], [1, 2], [2, 3]]\nroot: 1\n"


def run(*arguments):
    """The exit code of `python -m kgan_ray.prepare ARGUMENTS`."""
    with pytest.raises(SystemExit) as ending:
        run_verb(lambda _: prepare.main([str(argument) for argument in arguments]))
    return ending.value.code


def refused(capsys, *arguments):
    """The one line that a refused prepare prints."""
    capsys.readouterr()
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1
    return lines[0]


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def files(tmp_path):
    return write_ntu(tmp_path / "files", ntu_names(16))


def test_a_folder_of_recordings_becomes_a_dataset(tmp_path, files, capsys):
    assert run(files, "--output", tmp_path / "data") == 0
    assert names_in(tmp_path / "data") == ["manifest.json", "motions"]
    said = capsys.readouterr().out
    assert "16 sequences of ntu25" in said
    assert "benchmark xview: " in said
    dataset = Dataset.open(tmp_path / "data")
    assert dataset.hash in said
    assert names_in(tmp_path) == ["data", "files"]


def test_the_same_command_again_does_nothing_and_says_so(tmp_path, files, capsys):
    packed = zipped(files, tmp_path / "a.zip")
    for source in (files, packed):
        output = tmp_path / f"data-{source.name}"
        assert run(source, "--output", output) == 0
        before = (output / "manifest.json").stat().st_mtime_ns
        capsys.readouterr()
        assert run(source, "--output", output) == 0
        assert "already prepared from the same sources and options" in capsys.readouterr().out
        assert (output / "manifest.json").stat().st_mtime_ns == before


def test_touched_files_of_the_same_content_are_the_same_source(tmp_path, files, capsys):
    assert run(files, "--output", tmp_path / "data") == 0
    for file in files.iterdir():
        os.utime(file, (1, 1))
    assert run(files, "--output", tmp_path / "data") == 0
    assert "already prepared" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["option", "content", "new file", "class names"])
def test_what_changed_is_prepared_anew_with_force_only(tmp_path, files, capsys, change):
    output = tmp_path / "data"
    (files / "class_names.txt").write_text("hop\nskip\n")
    assert run(files, "--output", output) == 0
    first = Dataset.open(output)
    again = [files, "--output", output]
    if change == "option":
        again += ["--train-subjects", "1,3"]
    elif change == "content":
        (files / f"{ntu_names(1)[0]}.skeleton").write_text(one_body_text(moving_body(7, seed=99)))
    elif change == "new file":
        (files / "S001C001P001R009A001.skeleton").write_text(one_body_text(moving_body(7, seed=99)))
    else:
        (files / "class_names.txt").write_text("hop\njump\n")
    message = refused(capsys, *again)
    assert message == f"error: {output}: holds a dataset of other sources or options; --force replaces it"
    assert Dataset.open(output).hash == first.hash
    assert run(*again, "--force") == 0
    replaced = Dataset.open(output)
    assert replaced.manifest != first.manifest
    assert names_in(tmp_path) == ["data", "files"]
    assert run(*again) == 0


def test_a_zip_and_its_folder_give_the_same_dataset(tmp_path, files):
    assert run(files, "--output", tmp_path / "a") == 0
    assert run(zipped(files, tmp_path / "a.zip"), "--output", tmp_path / "b") == 0
    assert Dataset.open(tmp_path / "a").hash == Dataset.open(tmp_path / "b").hash


def test_prepare_says_what_it_took_a_file_for(tmp_path, capsys):
    write_pyskl(tmp_path / "a.pkl", made_recordings())
    np.savez(tmp_path / "CS.npz", **ctr_gcn_arrays(made_recordings()))
    padded = tmp_path / "padded.npz"
    np.savez(
        padded,
        motions=np.pad(np.stack([moving_body(6, seed=n) for n in range(20)]), ((0, 0), (0, 4), (0, 0), (0, 0))),
        labels=[0, 1] * 10,
    )
    for path, options, lines in [
        (
            tmp_path / "a.pkl",
            [],
            ["a.pkl: pyskl annotations, 25 joints as ntu25, up to 2 bodies, published splits"],
        ),
        (
            tmp_path / "CS.npz",
            [],
            [
                "CS.npz: CTR-GCN arrays, 25 joints as ntu25, two bodies, own split (xsub): 9 train and 3 test",
                "benchmark xsub: 9 train, 3 test, the source's own split",
            ],
        ),
        (
            padded,
            ["--layout", "ntu25"],
            [
                "padded.npz: own arrays (N, T, V, C), 25 joints as ntu25",
                "padding: 80 empty frames before and after the motions were cut",
                "test, every fifth by the hash of its name (--split none: all train and test)",
            ],
        ),
    ]:
        assert run(path, "--output", tmp_path / f"data-{path.stem}", *options) == 0
        printed = capsys.readouterr().out
        assert [line for line in lines if f"{line}\n" not in printed] == []


def test_joined_tracks_are_counted_and_said(tmp_path, capsys):
    files = write_ntu(tmp_path / "files", ntu_names(8))
    still = moving_body(1)[0]
    text = skeleton_text([[(BODY if frame < 3 else BODY + "2", still)] for frame in range(8)])
    (files / f"{ntu_names(8)[0]}.skeleton").write_text(text)
    assert run(files, "--output", tmp_path / "data") == 0
    assert (
        "tracking: in 1 sequences a person changed the tracking id; the pieces were joined"
        in capsys.readouterr().out
    )
    assert Dataset.open(tmp_path / "data").manifest.counts.joined_tracks == 1


def test_two_sources_of_a_kind_are_joined(tmp_path):
    names = ntu_names(24)
    one, two = write_ntu(tmp_path / "one", names[:12]), write_ntu(tmp_path / "two", names[12:])
    assert run(one, two, "--output", tmp_path / "data") == 0
    assert Dataset.open(tmp_path / "data").manifest.counts.kept == 24


def test_sources_that_do_not_go_together_are_refused(tmp_path, files, capsys):
    ucla = write_ucla(tmp_path / "ucla")
    output = ("--output", tmp_path / "data")
    assert "does not go with ntu25" in refused(capsys, files, ucla, *output)
    assert f"occurs twice, in {files}" in refused(capsys, files, files, *output)
    assert not (tmp_path / "data").exists()


def test_ucla(tmp_path, capsys):
    assert run(write_ucla(tmp_path / "ucla"), "--output", tmp_path / "data") == 0
    dataset = Dataset.open(tmp_path / "data")
    assert dataset.manifest.counts.per_benchmark["xview"].model_dump() == {"train": 10, "test": 10}


def test_a_skeleton_of_ones_own(tmp_path, capsys):
    (tmp_path / "worm.yaml").write_text(LAYOUT)
    motions = np.stack([moving_body(9, seed=seed, joints=4) for seed in range(8)])
    np.savez(tmp_path / "a.npz", motions=motions, labels=[0, 1] * 4, subjects=[1, 1, 2, 2, 3, 3, 4, 4])
    command = (tmp_path / "a.npz", "--layout", tmp_path / "worm.yaml", "--output", tmp_path / "data")
    assert run(*command) == 0
    dataset = Dataset.open(tmp_path / "data")
    assert (dataset.layout.name, dataset.layout.num_joints) == ("worm", 4)
    assert dataset.manifest.splits["xsub"].train == (1, 3)  # every second
    (tmp_path / "worm.yaml").write_text(LAYOUT.replace("root: 1", "root: 2"))
    assert "--force" in refused(capsys, *command)  # the layout is part of the dataset
    assert "has the skeleton ntu25" in refused(
        capsys, write_ntu(tmp_path / "n", ntu_names(4)), *command[1:3], "--output", tmp_path / "other"
    )


def test_the_missing_list_sets_recordings_aside_unread(tmp_path, files, capsys):
    gone, broken = ntu_names(16)[0], ntu_names(16)[5]
    (files / f"{broken}.skeleton").write_bytes(b"spoilt")
    (tmp_path / "list.txt").write_text(f"{gone}\n{broken}\nS009C009P009R009A009\n")
    assert run(files, "--missing-list", tmp_path / "list.txt", "--output", tmp_path / "data") == 0
    lines = (tmp_path / "data/rejected.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["name"] for line in lines] == sorted([gone, broken])
    assert {orjson.loads(line)["reason"] for line in lines} == {"on the list of missing skeletons"}
    assert Dataset.open(tmp_path / "data").manifest.counts.kept == 14
    assert "set aside: 2 of 16" in capsys.readouterr().out


def test_bad_files_are_set_aside_and_the_rest_is_kept(tmp_path, files):
    good = ntu_names(16)
    bad = {
        good[0]: b"",
        good[1]: b"\x89PNG\r\n\x1a\n\0\0",
        good[2]: "é".encode("latin-1") * 50,
        good[3]: one_body_text(moving_body(9)).encode()[:9000],
        good[4]: one_body_text(moving_body(9) * np.nan).encode(),
        good[5]: one_body_text(moving_body(9) * np.inf).encode(),
    }
    for name, data in bad.items():
        (files / f"{name}.skeleton").write_bytes(data)
    assert run(files, "--output", tmp_path / "data") == 0
    lines = (tmp_path / "data/rejected.jsonl").read_bytes().splitlines()
    reasons = {row["name"]: row["reason"] for row in map(orjson.loads, lines)}
    assert reasons.keys() == bad.keys()
    assert reasons[good[0]] == "the file is empty"
    assert reasons[good[1]] == reasons[good[2]] == "the file is not text"
    assert reasons[good[3]].startswith("its header promises 9 frames and it ends in frame")
    assert reasons[good[4]].startswith("frame 1: a coordinate is not finite")
    counts = Dataset.open(tmp_path / "data").manifest.counts
    assert (counts.read, counts.kept, counts.rejected) == (16, 10, 6)


def test_nothing_usable_is_refused_with_the_first_reason(tmp_path, files, capsys):
    for file in files.iterdir():
        file.write_bytes(b"")
    message = refused(capsys, files, "--output", tmp_path / "data")
    assert "none of 16 recordings is usable" in message
    assert message.endswith("the file is empty")
    assert names_in(tmp_path) == ["files"]


def test_a_class_with_one_sequence(tmp_path, capsys):
    np.savez(
        tmp_path / "a.npz", motions=np.stack([moving_body(9, seed=n) for n in range(3)]), labels=["a", "a", "b"]
    )
    command = (tmp_path / "a.npz", "--layout", "ntu25", "--output", tmp_path / "data")
    message = refused(capsys, *command)
    assert message.startswith("error: class 'b' has 1 sequence; at least 2 are needed (--min-per-class")
    assert names_in(tmp_path) == ["a.npz"]
    assert run(*command, "--min-per-class", "1") == 0
    assert "warning: only one sequence of b" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a SOURCE or --demo is needed"),
        (["absent"], "absent: does not exist"),
        (["--demo", "files"], "--demo needs no SOURCE"),
        (["files", "--seed", "1"], "--seed goes with --demo only"),
        (["files", "--num-sequences", "9"], "--num-sequences goes with --demo only"),
        (["--demo", "--num-sequences", "0"], "--num-sequences 0: at least 1 is needed"),
        (["--demo", "--seed", "-1"], "--seed -1: 0 or more is accepted"),
        (["files", "--train-subjects", "1,x"], "--train-subjects 1,x: expected numbers with commas"),
        (["files", "--train-cameras", "1,77"], "--train-cameras: no recording is of camera 77"),
        (
            ["files", "--missing-list", "absent"],
            "--missing-list absent: cannot be read (No such file or directory)",
        ),
        (["files", "--layout", "absent.yaml"], "absent.yaml: cannot be read as YAML"),
        (["files", "--outptu", "x"], "unrecognized arguments"),
        (["files", ""], "SOURCE and --output need a name each, and one is empty"),
        (["s3://bucket/ntu60.zip"], "s3://bucket/ntu60.zip: recordings are read from this machine's disks only"),
        (["files", "--min-per-class", "few"], "--min-per-class: invalid int value: 'few'"),
        (["empty"], "there is nothing in it"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, files, capsys, monkeypatch, arguments, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments, "--output", "data")
    assert names_in(tmp_path) == ["empty", "files"]


def test_an_output_that_holds_other_things_is_left_alone(tmp_path, files, capsys):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("dear")
    for force in ([], ["--force"]):
        assert "holds files that are no dataset" in refused(capsys, files, "--output", tmp_path / "home", *force)
        assert "is a file; a folder is needed" in refused(
            capsys, files, "--output", tmp_path / "home/thesis.tex", *force
        )
    assert (tmp_path / "home/thesis.tex").read_text() == "dear"


def test_an_empty_folder_is_filled(tmp_path, files):
    (tmp_path / "data").mkdir()
    assert run(files, "--output", tmp_path / "data") == 0
    assert Dataset.open(tmp_path / "data").manifest.counts.kept == 16


def test_a_newer_dataset_is_replaced_with_force_only(tmp_path, files, capsys):
    output = tmp_path / "data"
    assert run(files, "--output", output) == 0
    tree = orjson.loads((output / "manifest.json").read_bytes())
    (output / "manifest.json").write_bytes(orjson.dumps(tree | {"format_version": 2}))
    assert "format version 2" in refused(capsys, files, "--output", output)
    assert run(files, "--output", output, "--force") == 0
    assert Dataset.open(output).manifest.format_version == 1


def test_leftovers_of_killed_prepares_are_cleared_up(tmp_path, files):
    output = tmp_path / "data"
    assert run(files, "--output", output) == 0
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stem = f".data.{socket.gethostname()}-{ended.pid}"
    output.rename(tmp_path / f"{stem}.replaced")  # killed between the two renames of --force
    (tmp_path / f"{stem}.partial/motions").mkdir(parents=True)
    (tmp_path / ".data.elsewhere-1.partial").mkdir()  # another machine's: it may still run
    (tmp_path / f".data.{socket.gethostname()}-{os.getppid()}.partial").mkdir()  # still runs
    other = write_ntu(tmp_path / "other", ntu_names(8))
    with pytest.raises(UserError, match="not there at all"):
        prepare_and_fail(other, output)
    assert Dataset.open(output).manifest.counts.kept == 16
    kept = {".data.elsewhere-1.partial", f".data.{socket.gethostname()}-{os.getppid()}.partial"}
    assert set(names_in(tmp_path)) == {"data", "files", "other"} | kept


def prepare_and_fail(source, output):
    """A prepare that comes to nothing after it has begun to write."""
    with whole_folder(StorePath(output), MANIFEST) as unfinished:
        shutil.copytree(source, unfinished.local, dirs_exist_ok=True)
        raise UserError("not there at all")


def test_a_dataset_behind_a_uri(files, capsys):
    output = "memory://bucket/data"
    assert run(files, "--output", output) == 0
    dataset = Dataset.open(output)
    assert dataset.path == output
    assert len(dataset.rows_of("all", "train")) == 16
    assert run(files, "--output", output) == 0
    assert "already prepared" in capsys.readouterr().out
    assert run(files, "--output", output, "--force") == 0
    assert "cannot be opened" in refused(capsys, files, "--output", "nowhere://bucket/data")


def test_an_object_store_that_does_not_answer(files, capsys, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        message = refused(capsys, files, "--output", "s3://bucket/data")
    assert "the store does not answer, or refuses" in message
    assert "connect" in message


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() or not shutil.which("mount"):
        pytest.skip("mounting a small file system takes root on Linux")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"mounting is not allowed here: {made.stderr.strip()}")
    yield disk
    gc.collect()  # a writer that could not write closes its file only when it goes
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path, files, capsys, small_disk):
    output = small_disk / "data"
    assert run(files, "--output", output) == 0
    before = Dataset.open(output)
    large = write_ntu(tmp_path / "large", ntu_names(30), num_frames=200)  # 1.8 MB of noise
    for command in ([large, "--output", output, "--force"], [large, "--output", small_disk / "new"]):
        message = refused(capsys, *command)
        assert "cannot be written: " in message
        assert "No space left on device" in message
    assert names_in(small_disk) == ["data"]
    assert Dataset.open(output).manifest == before.manifest
    assert len(pq.read_table(output / "motions", partitioning=None)) == 16


def test_a_write_that_fails_is_one_line_wherever_it_happens(tmp_path, files, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for target in ("pyarrow.parquet.ParquetWriter.write_table", "kgan_ray.storage.StorePath.write_bytes"):
        with monkeypatch.context() as patch:
            patch.setattr(target, full)
            message = refused(capsys, files, "--output", tmp_path / "data")
        assert message == (
            f"error: {tmp_path}/data: cannot be written: No space left on device; nothing was kept of it"
        )
        assert names_in(tmp_path) == ["files"]


def test_a_folder_that_cannot_be_made(tmp_path, files, capsys):
    (tmp_path / "file").write_text("")
    assert "cannot be" in refused(capsys, files, "--output", tmp_path / "file/data")


def as_anybody(*arguments):
    """Run prepare in a process to which modes of files apply: root's, else, may read and write whatever there is."""
    powers = "-dac_override,-dac_read_search"
    command = [sys.executable, "-m", "kgan_ray.prepare", *map(str, arguments)]
    if not os.geteuid():
        if not shutil.which("setpriv"):
            pytest.skip("giving up root's powers takes setpriv")
        command = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}", *command]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    return ran.stderr


def test_what_may_not_be_read_or_written_is_one_line_that_names_it(tmp_path, files):
    """Nothing is passed over: a folder that cannot be listed would take its recordings along without a word."""
    output = tmp_path / "home/data"
    (tmp_path / "home").mkdir()
    inner = write_ntu(files / "inner", ntu_names(20)[16:])
    one = files / f"{ntu_names(16)[3]}.skeleton"
    for place, mode in ((inner, 0o300), (files, 0o300), (one, 0o000)):
        place.chmod(mode)
        assert as_anybody(files, "--output", output) == f"error: {place}: cannot be read (Permission denied)\n"
        place.chmod(0o700)
    (tmp_path / "home").chmod(0o500)
    message = as_anybody(files, "--output", output)
    assert message == f"error: {output}: cannot be written: Permission denied; nothing was kept of it\n"
    assert names_in(tmp_path / "home") == []
    assert names_in(tmp_path) == ["files", "home"]


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path, files, monkeypatch):
    monkeypatch.setattr("kgan_ray.data.prepare.ingest.ROWS_PER_PART", 8)
    last = max(files.iterdir(), key=lambda file: hashlib.sha256(file.stem.encode()).digest())
    packed = zipped(files, tmp_path / "a.zip")
    for source, change, message in (
        (packed, lambda: os.utime(packed, (1, 1)), f"{packed}: changed while it was read; nothing was kept of it"),
        (files, lambda: last.write_bytes(b"new"), f"{files}: changed while it was read; nothing was kept of it"),
        (files, last.unlink, f"{last}: cannot be read (No such file or directory)"),
    ):
        with pytest.raises(UserError) as refusal:
            prepare_dataset([str(source)], tmp_path / "data", progress=lambda _, change=change: change())
        assert str(refusal.value) == message
        assert names_in(tmp_path) == ["a.zip", "files"]


def test_a_file_that_is_not_read_is_not_waited_for(tmp_path, files):
    """Its folder is hashed for all that, of the pipe what an empty file has."""
    os.mkfifo(files / f"{ntu_names(17)[16]}.skeleton")
    assert run(files, "--output", tmp_path / "data") == 0
    assert Dataset.open(tmp_path / "data").manifest.counts.rejected == 1
    assert Dataset.open(tmp_path / "data").manifest.sources[0].sha256 == SkeletonFiles(files).sha256()


def test_the_genuine_ntu_sample_keeps_138_of_139(tmp_path):
    path = REAL_DATA / "ntu_sample_skeletons.zip"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    assert run(path, "--output", tmp_path / "data") == 0
    dataset = Dataset.open(tmp_path / "data")
    counts = dataset.manifest.counts
    assert (counts.read, counts.kept, counts.rejected) == (139, 138, 1)
    (rejected,) = (tmp_path / "data/rejected.jsonl").read_bytes().splitlines()
    assert orjson.loads(rejected)["name"] == "S005C002P013R002A056"
    assert orjson.loads(rejected)["reason"] == "its header promises 59 frames and it ends in frame 44"
    assert (len(dataset.class_names), sum(counts.per_class.values())) == (120, 138)


def test_parts_written_by_other_processes_are_those_written_here(tmp_path, monkeypatch):
    check_parts_written_elsewhere(tmp_path, monkeypatch)
    assert not ray.is_initialized()


@pytest.mark.slow
def test_parts_written_by_ray_are_those_written_here(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    check_parts_written_elsewhere(tmp_path, monkeypatch)
    assert ray.is_initialized()


def check_parts_written_elsewhere(tmp_path, monkeypatch):
    files = write_ntu(tmp_path / "files", ntu_names(48))
    broken = files / f"{ntu_names(48)[7]}.skeleton"
    broken.write_bytes(broken.read_bytes()[:5000])
    monkeypatch.setattr("kgan_ray.data.prepare.ingest.ROWS_PER_PART", 6)
    with monkeypatch.context() as patch:
        patch.setattr("kgan_ray.data.prepare.workers.FEW_PARTS", 1000)
        assert run(files, "--output", tmp_path / "here") == 0
    assert run(files, "--output", tmp_path / "there") == 0
    here, there = Dataset.open(tmp_path / "here"), Dataset.open(tmp_path / "there")
    assert here.manifest == there.manifest
    assert len(here.manifest.parts) == 8
    for part in here.manifest.parts:
        assert (tmp_path / "here" / part.file).read_bytes() == (tmp_path / "there" / part.file).read_bytes()


@pytest.mark.parametrize("where", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_full_disk_met_by_workers(tmp_path, monkeypatch, capsys, small_disk, where):
    if where == "ray":
        monkeypatch.setenv("RAY_ADDRESS", "local")
    large = write_ntu(tmp_path / "large", ntu_names(30), num_frames=200)
    monkeypatch.setattr("kgan_ray.data.prepare.ingest.ROWS_PER_PART", 5)
    message = refused(capsys, large, "--output", small_disk / "data")
    assert "No space left on device" in message
    assert names_in(small_disk) == []


def test_a_process_that_is_killed_for_want_of_memory_is_one_line(tmp_path, files, monkeypatch):
    monkeypatch.setattr("kgan_ray.data.prepare.ingest.ROWS_PER_PART", 1)
    others = psutil.Process().children()  # of earlier tests

    def kill_all(_):
        for process in set(psutil.Process().children()).difference(others):
            process.kill()

    with pytest.raises(
        UserError, match=r"has died \(the system has killed it, as it does where memory is short\)"
    ):
        prepare_dataset([str(files)], tmp_path / "data", progress=kill_all)
    assert names_in(tmp_path) == ["files"]
    assert not set(psutil.Process().children()).difference(others)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_prepare_that_is_ended_leaves_no_process_and_is_repeated(tmp_path, ending):
    """In what a script starts with `&`, as job scripts do, Ctrl-C is ignored: SIGTERM ends it all the same."""
    ctrl_c = signal.SIG_IGN if ending == signal.SIGTERM else signal.SIG_DFL
    command = [sys.executable, "-m", "kgan_ray.prepare", "--demo", "--num-sequences", "20000", "--output"]
    process = processes.start(
        [*command, str(tmp_path / "data")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, ctrl_c),
    )
    processes.wait_for(lambda: list(tmp_path.glob(".data.*.partial/motions/part-*")), process)
    writers = psutil.Process(process.pid).children()
    assert writers
    process.send_signal(ending)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == ((-9, "") if ending == signal.SIGKILL else (130, "stopped\n"))
    _, alive = psutil.wait_procs(writers, timeout=20)  # a part that was begun is written to its end
    assert alive == []
    assert bool(names_in(tmp_path)) == (ending == signal.SIGKILL)
    assert run("--demo", "--num-sequences", 100, "--output", tmp_path / "data") == 0
    assert names_in(tmp_path) == ["data"]
