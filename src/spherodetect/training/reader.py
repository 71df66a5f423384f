"""Reads records as batches: an endless, fixed sequence for training, or one pass for validation.

Model Garden's reader draws a new order after a restart. Here the order and the augmentation are
functions of a seed and of the example's number, so that a resumed run continues as if it had never
stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from spherodetect.errors import SpherodetectError

#: Most records in the shuffle buffer. A record is a third of a megabyte.
_MAX_SHUFFLE_BUFFER = 256
_FILES_AT_ONCE = 4


def read(
    config: Any,
    parse: Callable[[tf.Tensor, tf.Tensor], Any],
    *,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """A data set of batches, which are stacks of the examples that `parse` returns.

    Args:
        config: see experiment.SmearDataConfig. Without `weights` all data sets are drawn equally
            often.
        parse: from a serialised record and a seed, (2,) int32, to images and labels of fixed
            shapes.
        context: from tf.distribute, where there are several input pipelines.

    Raises:
        SpherodetectError: weights for other data sets than those of input_path.
    """
    patterns = (
        config.input_path.as_dict()
        if hasattr(config.input_path, "as_dict")
        else {"": config.input_path}
    )
    first, *others = streams = [_records(pattern, config) for pattern in patterns.values()]
    if config.is_training and others:
        weights = config.weights.as_dict() if config.weights else dict.fromkeys(patterns, 1.0)
        if set(weights) != set(patterns):
            raise SpherodetectError(
                f"train_data.weights: expected a number for each of {', '.join(patterns)}, got "
                f"{', '.join(weights)}; change the experiment"
            )
        records = tf.data.Dataset.sample_from_datasets(
            streams, [weights[name] for name in patterns], seed=config.seed
        )
    else:
        records = first
        for other in others:
            records = records.concatenate(other)
    if config.is_training:
        records = records.skip(config.first_example)
    records = records.enumerate(config.first_example)
    if context and context.num_input_pipelines > 1:
        records = records.shard(context.num_input_pipelines, context.input_pipeline_id)

    def example(number: tf.Tensor, record: tf.Tensor) -> Any:
        return parse(record, tf.stack([config.seed, tf.cast(number, tf.int32)]))

    examples = records.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    size = config.global_batch_size
    batches = examples.batch(
        context.get_per_replica_batch_size(size) if context else size, config.drop_remainder
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def _records(pattern: str | list[str], config: Any) -> tf.data.Dataset:
    """Serialised records: an endless stream, shuffled anew in each epoch, or one pass in order."""
    files = tf.data.Dataset.from_tensor_slices(sorted(tf.io.gfile.glob(pattern)))
    if not config.is_training:
        return _of_patients(files.flat_map(tf.data.TFRecordDataset), config)
    records = files.shuffle(1000, seed=config.seed).interleave(
        tf.data.TFRecordDataset, cycle_length=_FILES_AT_ONCE
    )
    return (
        _of_patients(records, config)
        .shuffle(min(config.shuffle_buffer_size, _MAX_SHUFFLE_BUFFER), seed=config.seed)
        .repeat()
    )


def _of_patients(records: tf.data.Dataset, config: Any) -> tf.data.Dataset:
    """The records of the patients that the config wants."""
    only, without = list(config.patients), list(config.without_patients)
    if not only and not without:
        return records
    feature = {"image/patient": tf.io.FixedLenFeature([], tf.string, "")}

    def is_wanted(record: tf.Tensor) -> tf.Tensor:
        patient = tf.io.parse_single_example(record, feature)["image/patient"]
        chosen = tf.reduce_any(patient == tf.constant(only, tf.string)) if only else True
        return chosen & ~tf.reduce_any(patient == tf.constant(without, tf.string))

    return records.filter(is_wanted)


def seeds(seed: tf.Tensor, names: tuple[str, ...]) -> Mapping[str, tf.Tensor]:
    """An independent seed for each name, from one seed (2,) int32."""
    return dict(zip(names, tf.unstack(tf.random.split(seed, len(names))), strict=True))
