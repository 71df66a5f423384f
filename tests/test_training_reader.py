"""reader: an endless, fixed sequence of examples, which a resumed run continues."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from spherodetect.errors import SpherodetectError

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    return import_module("spherodetect.training.reader")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two data sets of numbered records: a has 0 to 29 in three files, b has 100 to 109 in one."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("records")
    for name, numbers in {
        "a-0": range(10),
        "a-1": range(10, 20),
        "a-2": range(20, 30),
        "b-0": range(100, 110),
    }.items():
        with tf.io.TFRecordWriter(str(folder / f"{name}.tfrecord")) as writer:
            for number in numbers:
                writer.write(str(number).encode())
    return folder


def config(folder, **settings):
    from spherodetect.training.experiment import SmearDataConfig

    return SmearDataConfig(
        **(
            {
                "input_path": f"{folder}/a-*.tfrecord",
                "global_batch_size": 4,
                "is_training": True,
                "shuffle_buffer_size": 8,
            }
            | settings
        )
    )


def parse(record, seed):
    import tensorflow as tf

    return tf.strings.to_number(record, tf.int32), seed


def taken(dataset, batches):
    return [tuple(part.numpy() for part in batch) for batch in dataset.take(batches)]


def test_a_resumed_run_continues_the_sequence(reader, records):
    from_start = taken(reader.read(config(records), parse), 20)
    for step in (1, 7, 13):
        resumed = taken(reader.read(config(records, first_example=4 * step), parse), 20 - step)
        for (numbers, seeds), (expected, expected_seeds) in zip(
            resumed, from_start[step:], strict=True
        ):
            np.testing.assert_array_equal(numbers, expected)
            np.testing.assert_array_equal(seeds, expected_seeds)


def test_every_epoch_has_every_record_in_a_new_order(reader, records):
    numbers = np.concatenate(
        [n for n, _ in taken(reader.read(config(records, global_batch_size=30), parse), 3)]
    )
    rounds = numbers.reshape(3, 30)
    assert all(sorted(one) == list(range(30)) for one in rounds)
    assert not (rounds[0] == rounds[1]).all()


def test_no_two_examples_share_a_seed(reader, records):
    seeds = np.concatenate([s for _, s in taken(reader.read(config(records), parse), 30)])
    assert len(np.unique(seeds, axis=0)) == 120


def test_data_sets_are_mixed_by_their_weights(reader, records):
    paths = {"a": f"{records}/a-*.tfrecord", "b": f"{records}/b-*.tfrecord"}
    mixed = config(records, input_path=paths, weights={"a": 0.75, "b": 0.25}, global_batch_size=400)
    ((numbers, _),) = taken(reader.read(mixed, parse), 1)
    assert 0.68 < (numbers < 100).mean() < 0.82
    ((numbers, _),) = taken(
        reader.read(config(records, input_path=paths, global_batch_size=400), parse), 1
    )
    assert 0.43 < (numbers < 100).mean() < 0.57  # without weights all are used
    with pytest.raises(SpherodetectError, match="expected a number for each of a, b, got a, c"):
        reader.read(config(records, input_path=paths, weights={"a": 0.75, "c": 0.25}), parse)


def test_validation_records_are_read_once_in_order(reader, records):
    batches = taken(
        reader.read(config(records, is_training=False, drop_remainder=False), parse), -1
    )
    assert [len(numbers) for numbers, _ in batches] == [4] * 7 + [2]
    np.testing.assert_array_equal(
        np.concatenate([numbers for numbers, _ in batches]), np.arange(30)
    )


def test_several_pipelines_share_the_sequence(reader, records):
    import tensorflow as tf

    whole = np.concatenate([n for n, _ in taken(reader.read(config(records), parse), 6)])
    parts = [
        np.concatenate(
            [n for n, _ in taken(reader.read(config(records), parse, context=context), 6)]
        )
        for context in (tf.distribute.InputContext(2, k, 2) for k in range(2))
    ]
    np.testing.assert_array_equal(np.stack(parts, axis=1).ravel(), whole)
