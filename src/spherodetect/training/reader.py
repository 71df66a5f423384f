"""Records to batches: one endless, fixed sequence of examples to train on, or one pass over
held-out ones.

Model Garden's reader draws an order that a restart draws anew. Here the order, and through a seed
for every example the variation of the images, is a function of the seed and the example's number,
so that a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from spherodetect.errors import SpherodetectError

#: Records are a third of a megabyte; more of them in the shuffle's buffer would cost more memory
#: than they bring order.
_MOST_SHUFFLED = 256
_FILES_AT_ONCE = 4


def read(
    config: Any,
    parse: Callable[[tf.Tensor, tf.Tensor], Any],
    *,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """A data set of batches, each the dense stack of what `parse` makes of its records.

    Args:
        config: experiment.SmearDataConfig; input_path is a pattern, or a name and a pattern a data
            set. `weights` says how often each is drawn to train on; without them all are drawn
            equally often.
        parse: a serialised record and a seed, (2,) int32, to images and labels of fixed shapes.
        context: which of several input pipelines this is, from tf.distribute.

    Raises:
        SpherodetectError: weights of other data sets.
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
                f"train_data.weights: expected a number for each of {', '.join(patterns)}, got {', '.join(weights)}"
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


def _records(pattern: str, config: Any) -> tf.data.Dataset:
    """Serialised records: shuffled again in every round of an endless stream, or once in their
    order."""
    files = tf.data.Dataset.from_tensor_slices(sorted(tf.io.gfile.glob(pattern)))
    if not config.is_training:
        return files.flat_map(tf.data.TFRecordDataset)
    records = files.shuffle(1000, seed=config.seed).interleave(
        tf.data.TFRecordDataset, cycle_length=_FILES_AT_ONCE
    )
    return records.shuffle(
        min(config.shuffle_buffer_size, _MOST_SHUFFLED), seed=config.seed
    ).repeat()


def seeds(seed: tf.Tensor, names: tuple[str, ...]) -> Mapping[str, tf.Tensor]:
    """One seed, (2,) int32, to an independent one a name."""
    return dict(zip(names, tf.unstack(tf.random.split(seed, len(names))), strict=True))
