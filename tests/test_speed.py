"""The measurements of reading and preparing run and add up; memory does not grow with the number of files."""

import subprocess
import sys

import pytest

from helpers.recordings import moving_body, ntu_names, one_body_text, write_ntu, zipped
from kgan_ray.benchmarks.reading import measure_preparing, measure_reading
from kgan_ray.settings import UserError


def test_reading_is_measured_against_the_plain_reader(tmp_path):
    files = write_ntu(tmp_path / "files", ntu_names(8))
    (files / f"{ntu_names(8)[0]}.skeleton").write_bytes(b"")  # no whole recording: does not count
    for source in (files, zipped(files, tmp_path / "a.zip")):
        measured = measure_reading(source, rounds=1)
        assert measured["files"] == 7
        assert measured["files_a_second"] == pytest.approx(
            measured["times_plain"] * measured["plain_files_a_second"]
        )


def test_preparing_is_measured_on_copies_under_new_names(tmp_path):
    measured = measure_preparing(write_ntu(tmp_path / "files", ntu_names(8)), num_files=20)
    assert measured["files"] == measured["kept"] == 20
    assert measured["files_a_second"] == pytest.approx(20 / measured["seconds"])


def test_nothing_to_measure_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"does not exist; expected a folder or zip of \.skeleton"):
        measure_reading(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no \.skeleton file that can be read"):
        measure_reading(tmp_path)


INGEST = r"""
import re, sys
from pathlib import Path
from kgan_ray.data.prepare import ingest
from kgan_ray.data.sources.ntu_files import SkeletonFiles
ingest.FEW_PARTS = 1000
ingest.ingest([SkeletonFiles(Path(sys.argv[1]))], sys.argv[2])
# Not ru_maxrss: after a fork that starts at the size of the parent.
print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/status is Linux's")
def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    originals = [tmp_path / f"{seed}.skeleton" for seed in range(4)]
    for seed, file in enumerate(originals):
        file.write_text(one_body_text(moving_body(80, seed=seed)))
    peaks = []
    for num_files in (600, 2400):
        folder = tmp_path / str(num_files)
        folder.mkdir()
        for number in range(num_files):
            name = f"S001C001P{1 + number // 900:03}R{1 + number % 900:03}A001.skeleton"
            (folder / name).hardlink_to(originals[number % 4])
        command = [sys.executable, "-c", INGEST, folder, tmp_path / f"data-{num_files}"]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024)
    grown = (peaks[1] - peaks[0]) / 1800  # megabytes a recording
    assert grown * 114_480 < 3000, peaks  # NTU-120's, within 4 GiB beside what Python and Ray take
    assert peaks[1] < 500, peaks
