"""The verb evaluate: checkpoints and files, error bars, the floor, and what it refuses."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kgan_ray.data.motions_file import read_motions
from kgan_ray.evaluate import main
from kgan_ray.metrics import suite
from kgan_ray.metrics.evaluation import Estimate
from kgan_ray.settings import UserError, override
from kgan_ray.storage import StorePath
from kgan_ray.training.checkpoint import write_checkpoint
from kgan_ray.training.gan import GAN


@pytest.fixture(scope="module")
def checkpoint(demo, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "step-00000000"
    state = {"step": 0, "metrics": {}, "dataset": demo.hash}
    write_checkpoint(StorePath(folder), GAN(tiny, demo.view(tiny.data).spec), state)
    return str(folder)


@pytest.fixture(scope="module")
def spec(demo, tiny):
    return demo.view(tiny.data).spec


@pytest.fixture
def motions(demo, tiny, spec):
    test = demo.view(tiny.data).load("test")
    return spec.to_metres(test.motions).numpy(), test.labels.numpy()


@pytest.fixture
def files(tmp_path, motions):
    np.save(tmp_path / "motions.npy", motions[0])
    np.save(tmp_path / "labels.npy", motions[1])
    return str(tmp_path / "motions.npy"), str(tmp_path / "labels.npy")


@pytest.fixture
def like_tiny(demo, tiny):
    data = tiny.data
    return [
        "--data",
        demo.path,
        *(f"--set=data.{name}={getattr(data, name)}" for name in ("benchmark", "frames", "window", "centre")),
    ]


def test_an_estimate_has_students_interval():
    score = Estimate.of([1.0, 2.0, 3.0])
    assert (score.mean, score.std) == (2, 1)
    assert score.high - score.mean == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert Estimate.of([5.0]) == Estimate(5.0, None, None, None)


def test_a_checkpoint_is_measured_again_and_again(checkpoint, demo, tmp_path, capsys):
    record = tmp_path / "record.json"
    main(
        [
            checkpoint,
            "--metrics",
            "fid",
            "accuracy",
            "--repeats",
            "3",
            "--num-motions",
            "24",
            "--output",
            str(record),
        ]
    )
    written = json.loads(record.read_text())
    assert written["seeds"] == [0, 1, 2]
    assert written["dataset"] == demo.hash
    values = [repeat["fid"] for repeat in written["repeats"]]
    assert written["scores"]["fid"]["mean"] == pytest.approx(np.mean(values))
    assert len(set(values)) == 3
    assert set(written["floor"]) == {"test", "halves"}
    per_class = {name: score for name, score in written["scores"].items() if name.startswith("accuracy/")}
    assert set(per_class) <= {f"accuracy/{name}" for name in demo.class_names}
    mean = np.mean([score["mean"] for score in per_class.values()])
    assert mean == pytest.approx(written["scores"]["accuracy"]["mean"])  # as many motions of every class
    assert np.trace(written["extractor_confusion"]) / np.sum(written["extractor_confusion"]) == pytest.approx(
        written["extractor_accuracy"]
    )
    shown = capsys.readouterr().out
    assert all(name in shown for name in per_class)
    assert written["extractor"] in shown
    assert "95 % interval" in shown
    accuracy, tested_on = written["extractor_accuracy"], written["extractor_tested_on"]
    assert f"extractor {written['extractor']}, right for {accuracy:.1%} of {tested_on}" in shown


def test_a_draw_repeats_by_its_seed(checkpoint, tmp_path):
    for name in ("a", "b"):
        main([checkpoint, "--num-motions", "24", "--no-floor", "--output", str(tmp_path / f"{name}.json")])
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_the_test_split_as_a_file_scores_the_floor(files, like_tiny, tmp_path):
    record = tmp_path / "record.json"
    main([files[0], "--labels", files[1], *like_tiny, "--metrics", "fid", "accuracy", "--output", str(record)])
    written = json.loads(record.read_text())
    assert written["scores"]["fid"]["mean"] == pytest.approx(written["floor"]["test"]["fid"], rel=1e-3)
    assert written["scores"]["accuracy"]["mean"] == pytest.approx(written["floor"]["test"]["accuracy"])


def test_a_file_of_other_classes_is_told_so(files, motions, like_tiny, tmp_path, capsys):
    many = 1 + 9 * (motions[1] == motions[1][0])
    np.save(tmp_path / "motions.npy", motions[0].repeat(many, axis=0))
    np.save(tmp_path / "labels.npy", motions[1].repeat(many))
    main([*files[:1], "--labels", files[1], *like_tiny, "--metrics", "accuracy", "--no-floor"])
    assert (
        "of its motions are of other classes than in the training split's proportions" in capsys.readouterr().out
    )


def test_a_table_can_be_written_as_csv(checkpoint, tmp_path):
    main([checkpoint, "--metrics", "fid", "--num-motions", "24", "--output", str(tmp_path / "table.csv")])
    row, *beside = csv.DictReader((tmp_path / "table.csv").open())
    assert [line["metric"] for line in beside] == ["fid_test", "fid_train", "fid_train_test"]
    assert row["metric"] == "fid"
    assert row["extractor"]
    assert row["floor_test"]


def test_parquet_and_arrays_hold_the_same_motions(motions, files, tmp_path, spec):
    flat = [motion.transpose(1, 2, 0).ravel() for motion in motions[0]]
    pq.write_table(pa.table({"motion": flat, "label": motions[1]}), tmp_path / "motions.parquet")
    first = read_motions(tmp_path / "motions.parquet", None, spec)
    second = read_motions(tmp_path / "motions.npy", tmp_path / "labels.npy", spec)
    assert torch.equal(first.motions, second.motions)
    assert torch.equal(first.labels, second.labels)


def test_scores_of_different_measures_are_not_compared(checkpoint, tmp_path, capsys):
    record = str(tmp_path / "record.json")
    main([checkpoint, "--num-motions", "24", "--no-floor", "--output", record])
    main([checkpoint, "--num-motions", "24", "--no-floor", "--compare", record])
    assert "earlier" in capsys.readouterr().out
    written = json.loads((tmp_path / "record.json").read_text())
    for name in ("extractor", "dataset"):
        (tmp_path / "other.json").write_text(json.dumps({**written, name: "0000"}))
        with pytest.raises(UserError, match=f"cannot be compared: {name} is 0000 there"):
            main([checkpoint, "--num-motions", "24", "--no-floor", "--compare", str(tmp_path / "other.json")])


def test_scores_of_other_numbers_of_motions_are_not_compared(checkpoint, files, like_tiny, tmp_path):
    """A distance falls with the number of motions; of a file that number is its own, whatever the settings say."""
    record = str(tmp_path / "record.json")
    main(
        [
            *(file := [files[0], "--labels", files[1], *like_tiny, "--metrics", "fid", "--no-floor"]),
            "--output",
            record,
        ]
    )
    count = json.loads((tmp_path / "record.json").read_text())["num_motions"]
    assert count == len(np.load(files[1]))
    main([*file, "--compare", record])
    with pytest.raises(UserError, match=f"cannot be compared: num_motions is {count} there and 24 here"):
        main([checkpoint, "--metrics", "fid", "--num-motions", "24", "--no-floor", "--compare", record])
    written = json.loads((tmp_path / "record.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**written, "num_real": 7}))
    with pytest.raises(UserError, match="cannot be compared: num_real is 7 there"):
        main([*file, "--compare", str(tmp_path / "other.json")])


def test_a_generator_of_other_motions_is_refused(demo, tiny, tmp_path):
    other = override(tiny, {"data.frames": 32})
    write_checkpoint(
        StorePath(tmp_path / "step-00000000"),
        GAN(other, demo.view(other.data).spec),
        {"step": 0, "metrics": {}, "dataset": ""},
    )
    with pytest.raises(UserError, match="a generator of motions with frames 32"):
        main([str(tmp_path / "step-00000000"), "--set", "data.frames=16"])


def test_a_diverged_generator_is_one_sentence(demo, tiny, spec, tmp_path):
    gan = GAN(tiny, spec)
    for network in (gan.generator, gan.average):
        if network is not None:
            for weight in network.parameters():
                weight.data.fill_(float("nan"))
    write_checkpoint(StorePath(tmp_path / "step-00000000"), gan, {"step": 0, "metrics": {}, "dataset": demo.hash})
    with pytest.raises(UserError, match="hold NaN or infinity; the generator has diverged"):
        main([str(tmp_path / "step-00000000"), "--num-motions", "24"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "fdi"], "--metrics: unknown metric 'fdi'"),
        (["--repeats", "0"], "--repeats 0: at least 1"),
        (["--output", "scores.txt"], r"scores\.txt: expected a name that ends"),
        (["--data", "nowhere"], "nowhere: no dataset here"),
        (["--truncation", "2"], "truncation"),
        (["--preset", "demo"], "--preset: a checkpoint brings its own settings"),
    ],
)
def test_wrong_options_are_refused(checkpoint, arguments, message):
    with pytest.raises(UserError, match=message):
        main([checkpoint, *arguments])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda motions, labels: (motions[..., :-1], labels), r"shape \(\d+, 3, 16, 24\), expected"),
        (lambda motions, labels: (motions, labels[:-1]), "expected one whole number for each"),
        (lambda motions, labels: (motions, labels + 100), r"unknown class \d+; the dataset has the classes 0 to"),
        (
            lambda motions, labels: (np.where(motions == motions.max(), np.nan, motions), labels),
            "motions hold NaN or infinity",
        ),
        (lambda motions, labels: (motions.astype(str), labels), "not a .npy array of numbers"),
        (lambda motions, labels: (motions[:0], labels[:0]), "expected"),
    ],
)
def test_files_that_do_not_fit_are_refused(motions, tmp_path, like_tiny, change, message):
    for name, array in zip(("motions", "labels"), change(*motions), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(UserError, match=message):
        main([str(tmp_path / "motions.npy"), "--labels", str(tmp_path / "labels.npy"), *like_tiny])


def test_motions_that_do_not_fit_are_refused_before_an_extractor_is_trained_for_minutes(
    files, like_tiny, monkeypatch
):
    monkeypatch.setattr(suite, "find_extractor", lambda *_: pytest.fail("an extractor was asked for"))
    with pytest.raises(UserError, match=r"shape \(\d+, 3, 16, 25\), expected"):
        main([files[0], "--labels", files[1], *like_tiny, "--set", "data.frames=64"])


def test_an_array_needs_labels_and_a_file_cannot_be_drawn_again(files, like_tiny):
    with pytest.raises(UserError, match="needs --labels"):
        main([files[0], *like_tiny])
    with pytest.raises(UserError, match="cannot be drawn again"):
        main([files[0], "--labels", files[1], "--repeats", "2", *like_tiny])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"junk", "not a Parquet file"),
        ({"motion": [[1.0]]}, "column"),
        ({"motion": [[1.0]], "label": [0]}, "row 0 holds 1 values, expected 16 frames"),
    ],
)
def test_parquet_files_that_do_not_fit_are_refused(tmp_path, spec, content, message):
    file = tmp_path / "motions.parquet"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        pq.write_table(pa.table(content), file)
    with pytest.raises(UserError, match=message):
        read_motions(file, None, spec)
