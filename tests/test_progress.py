"""The board of progress and the thread that reads it."""

import pickle
import time
from dataclasses import replace

import pytest

from kgan_ray.cluster import connect
from kgan_ray.metrics.names import Recognition
from kgan_ray.training.progress import Ending, Outcome, Progress, start_board, watched


def at(step: int) -> Progress:
    return Progress(step, 600, 12.5, 3661.0, {"fid": 12.34567, "discriminator/loss": 1.0})


def test_the_progress_line_says_rate_and_time_left():
    assert at(50).line() == "step 50/600  12.50 steps/s  1:01:01 left  fid 12.35"


def test_how_good_the_extractor_is_stands_beside_its_scores():
    line = replace(at(50), extractor=Recognition("e", 0.81, "486 test motions", chance=0.12)).line()
    assert line.endswith("fid 12.35  (extractor 81% right)")
    line = replace(at(50), extractor=Recognition("e", 0.14, "486 test motions", chance=0.12)).line()
    assert line.endswith("fid 12.35  (BLIND extractor 14% right)")


@pytest.mark.slow
def test_a_board_shows_the_newest_of_every_run_and_keeps_how_each_ended():
    ray = connect()
    try:
        board = start_board()
        seen = []
        with watched(board, seen.append, every=0.05):
            board.put("a", at(1))
            deadline = time.monotonic() + 30
            while not seen and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.3)  # nothing new: nothing is shown
            assert seen == [{"a": at(1)}]
            sent = pickle.loads(pickle.dumps(board))
            for step in (2, 3):
                sent.put("a", at(step))
            sent.put("b", at(7))
        assert seen[-1] == {"a": at(3), "b": at(7)}, "the last progress is shown before the context ends"
        board.end("b", Ending(Outcome("finished", 600, {"fid": 1.0})))
        assert board.ending("b").outcome.step == 600
        assert board.ending("a") == Ending()
        board.close()
        with watched(board, seen.append, every=0.05):  # a board that is gone shows nothing, and hangs nobody
            time.sleep(0.2)
        assert len(seen) <= 4
    finally:
        ray.shutdown()
