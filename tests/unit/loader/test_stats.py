"""Figures of a loader's work, and the advice that follows from them."""

import threading

import numpy as np
import pytest
from material import material_dir
from simplejpeg import encode_jpeg

from shardkit.codecs.image import ImageDecoder
from shardkit.loader.advice import RawForm, Trial, advise, try_resize
from shardkit.loader.recorder import STAGES, Figures, Recorder
from shardkit.loader.stats import make_stats
from shardkit.sample import Batch


def figures(*, samples=1000, seconds=10.0, waited=10.0, threads=2, **stages):
    return Figures(
        samples=samples, seconds=seconds, waited=waited, threads=threads, bytes_read=10**8,
        stages={**dict.fromkeys(STAGES, 0.0), **stages},
    )  # fmt: skip


def batch(rows, padding=0):
    arrays = {"image": np.zeros((rows, 2, 2, 3), np.uint8)}
    return Batch(arrays, labels=np.zeros(rows), epoch=0, step=0, keys=list, num_padding=padding)


def test_figures_add_up_over_threads():
    recorder = Recorder()

    def work():
        for _ in range(200):
            recorder.work(3, read=0.25, decode=0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    recorder.handed_out(batch(8), 2.0, 0.0)
    recorder.handed_out(batch(8, padding=3), 1.0, 4.0)
    found = recorder.figures(4)
    assert found.stages == {"read": 200.0, "verify": 0.0, "decode": 400.0, "augment": 0.0, "assemble": 0.0}
    assert (found.samples, found.batches, found.bytes_read) == (13, 2, 2400)
    assert (found.seconds, found.waited) == (7.0, 3.0)
    recorder.reset()
    assert recorder.figures(4).samples == 0


def test_occupancy_is_part_of_the_threads_time():
    found = figures(read=4.0, decode=10.0)
    assert found.occupancy == pytest.approx(
        {"read": 0.2, "verify": 0, "decode": 0.5, "augment": 0, "assemble": 0, "wait": 0.3}
    )
    assert found.samples_per_second == 100


def test_without_figures_there_is_no_advice():
    assert "nothing was measured" in str(advise(figures(samples=0, seconds=0.0), 2))
    assert "0 samples" in str(make_stats(Recorder(), 2, None, None))


def test_whoever_iterates_may_be_the_limit():
    found = advise(figures(waited=0.2, decode=15.0), 8, Trial(256, 0.1, 0.1))
    assert "it waited for data 2.0% of the time" in str(found)
    assert found.gain == 1


def test_more_threads_are_advised_where_there_are_cores():
    found = advise(figures(threads=1, decode=9.5), 2)
    assert str(found) == "decoding is the limit: 1 thread at 95%; threads=2 would give about 2 x"
    assert (found.change, found.gain) == ("threads=2", 2.0)


def test_the_gain_of_smaller_pictures_is_computed_from_all_stages():
    # 20 thread seconds: 16 of decoding become 4, 2 of reading and verifying become 1, 2 stay.
    found = advise(figures(decode=16.0, read=1.5, verify=0.5, assemble=2.0), 2, Trial(256, 0.25, 0.5))
    assert found.gain == pytest.approx(20 / 7)
    assert str(found) == "decoding is the limit: 2 threads at 100%; packing with `--resize 256` would give about 2.9 x"


def test_waiting_stays_as_it_was():
    # Of 20 thread seconds 15 were work; 12 of decoding become 3.
    assert advise(figures(decode=12.0, read=3.0), 2, Trial(256, 0.25, 1.0)).gain == pytest.approx(20 / 11)


def test_batches_made_ahead_count_as_work_that_was_done():
    # 30 seconds of work were done in 20 thread seconds that were measured.
    found = advise(figures(decode=24.0, read=6.0), 2, Trial(256, 0.25, 1.0))
    assert found.gain == pytest.approx(30 / 12)
    assert "2 threads at 100%" in str(found)


def test_no_gain_is_promised_beyond_what_whoever_iterates_can_take():
    # It was busy for 5 of 10 seconds, so twice the speed is all it can use.
    found = advise(figures(waited=5.0, decode=20.0), 2, Trial(256, 0.1, 0.1))
    assert found.gain == pytest.approx(2.0)


def test_the_largest_gain_is_advised_and_small_ones_are_not():
    many = advise(figures(threads=1, decode=9.0, read=1.0), 2, Trial(64, 0.9, 1.0), RawForm((28, 28), 784))
    assert many.change == "--store raw --image-size 28 28"
    assert many.gain == 10
    few = advise(figures(decode=19.0, read=1.0), 2, Trial(256, 0.95, 0.95), RawForm((224, 224), 150_528))
    assert few.gain == 1
    assert "what these pictures and cores allow" in str(few)


def test_a_slow_disk_is_named_with_its_speed():
    assert "reading is the limit: 2 threads at 95%; the disk gave 10 MB/s" in str(advise(figures(read=19.0), 2))


def test_a_trial_makes_pictures_smaller_and_decodes_them():
    pictures = [material_dir("photos", name).read_bytes() for name in ("china.jpg", "flower.jpg", "rocket.jpg")]
    decoder = ImageDecoder(image_size=(48, 48))
    found = try_resize([*pictures, b"no picture"], decoder, 56)
    assert found.side == 56
    assert 0 < found.decode < 1
    assert 0 < found.size < 0.1
    assert try_resize(pictures, decoder, 5000) is None
    assert try_resize([], decoder, 56) is None


def test_a_trial_leaves_out_small_pictures_that_do_not_decode():
    photo, small = (material_dir("photos", name).read_bytes() for name in ("china.jpg", "flower.jpg"))
    damaged = bytearray(encode_jpeg(np.zeros((40, 40, 3), np.uint8)))
    del damaged[-30:-2]
    assert try_resize([photo, bytes(damaged), small], ImageDecoder(image_size=(48, 48)), 56).side == 56


def test_a_table_is_printed():
    recorder = Recorder()
    recorder.work(10**6, read=1.0, decode=6.0)
    recorder.handed_out(batch(100), 4.0, 0.0)
    lines = str(make_stats(recorder, 2, None, None)).splitlines()
    assert lines[0] == "100 samples in 4.0 s: 25 a second; 1.0 MB read"
    assert lines[1] == "waited for data 4.0 s, 100% of the time"
    assert [line.split() for line in lines[4:6]] == [
        ["read", "1.00", "10000.0", "12.5%"],
        ["verify", "0.00", "0.0", "0.0%"],
    ]
    assert lines[9].split() == ["wait", "1.00", "10000.0", "12.5%"]
    assert lines[-1].startswith("decoding is the limit")
