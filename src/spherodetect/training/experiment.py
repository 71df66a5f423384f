"""The experiment `spherodetect_maskrcnn_mobilenet`, registered with Model Garden's factory.

It is `maskrcnn_mobilenet_coco` with the changes below. A YAML in experiments/ changes it further.
Importing this module registers it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from official.core import config_definitions, exp_factory
from official.modeling import optimization
from official.vision.configs import maskrcnn as base

from spherodetect.training.duration import TUNING_STEPS

EXPERIMENT = "spherodetect_maskrcnn_mobilenet"


#: Settings of a run that goes on from the weights of a model folder: fewer and smaller steps.
TUNING: Mapping[str, Any] = {
    "task": {"init_checkpoint_modules": "all", "frozen_norms": True},
    "trainer": {
        "train_steps": TUNING_STEPS,
        "validation_interval": 100,
        "optimizer_config": {
            "learning_rate": {
                "cosine": {"initial_learning_rate": 4e-4, "decay_steps": TUNING_STEPS}
            },
            "warmup": {"linear": {"warmup_steps": 20}},
        },
    },
}


@dataclasses.dataclass
class SmearParserConfig(base.Parser):
    """How records become training examples; augment.py explains each jitter and share."""

    rbc_px: float = 32.0
    scale_jitter: float = 1.3
    stain_jitter: float = 0.5
    tint_jitter: float = 0.3
    colour_fade: float = 0.8
    mixing_jitter: float = 0.08
    light_jitter: float = 0.02
    glare: float = 0.12
    defocus: float = 1.25
    sharpening: float = 1.5
    noise: float = 0.025
    recompressed_share: float = 0.4
    pasted_share: float = 0.4


@dataclasses.dataclass
class SmearDataConfig(base.DataConfig):
    """A data set of records.

    input_path is a file pattern, a list of them, or a mapping from the name of each data set to its
    patterns. In the last case `weights` maps each name to how often it is drawn. Fields of patients
    in `without_patients` are passed over; if `patients` names some, all others are.
    """

    dtype: str = "float32"
    # Number of the first example in an endless, fixed sequence. A resumed run continues where it
    # stopped.
    first_example: int = 0
    seed: int = 1
    patients: list[str] = dataclasses.field(default_factory=list)
    without_patients: list[str] = dataclasses.field(default_factory=list)
    parser: SmearParserConfig = dataclasses.field(default_factory=SmearParserConfig)


@dataclasses.dataclass
class SmearTask(base.MaskRCNNTask):
    """The task of task.py; class_names are in the order of the class ids, without background.

    With frozen_norms batch normalisation keeps its values in training. A run that goes on from the
    weights of a model folder needs that, see weights.py.
    """

    class_names: list[str] = dataclasses.field(
        default_factory=lambda: ["rbc", "spherocyte", "wbc", "platelet"]
    )
    frozen_norms: bool = False
    train_data: SmearDataConfig = dataclasses.field(
        default_factory=lambda: SmearDataConfig(is_training=True)
    )
    validation_data: SmearDataConfig = dataclasses.field(
        default_factory=lambda: SmearDataConfig(is_training=False, drop_remainder=False)
    )


@dataclasses.dataclass
class SmearTrainer(config_definitions.TrainerConfig):
    """Model Garden's trainer with early stopping.

    Training ends after `patience` validations without improvement; with 0 it never ends early.
    """

    patience: int = 6
    best_checkpoint_export_subdir: str = "best"
    best_checkpoint_eval_metric: str = "spherocyte_ap"


@exp_factory.register_config_factory(EXPERIMENT)
def smear_maskrcnn_mobilenet() -> base.cfg.ExperimentConfig:
    """Mask R-CNN on MobileNetV2 for many red cells of similar size, on one or two CPU cores."""
    config = exp_factory.get_exp_config("maskrcnn_mobilenet_coco")
    stock = {f.name: getattr(config.task, f.name) for f in dataclasses.fields(base.MaskRCNNTask)}
    task = SmearTask(
        **{
            **stock,
            "train_data": SmearDataConfig(is_training=True),
            "validation_data": SmearDataConfig(is_training=False, drop_remainder=False),
        }
    )
    model = task.model
    model.num_classes = 5
    model.input_size = [384, 384, 3]
    # A red cell of 32 px is four strides of level 3. White cells are twice as wide, and platelets
    # have a third of the width.
    model.min_level, model.max_level = 3, 5
    model.anchor.anchor_size, model.anchor.num_scales, model.anchor.aspect_ratios = 3.0, 2, [1.0]
    # Box and mask do not depend on the class, so that cells of unknown class train both heads.
    model.detection_head.class_agnostic_bbox_pred = True
    model.mask_head.class_agnostic = True
    model.detection_head.num_convs, model.detection_head.fc_dims = 2, 256
    model.mask_head.num_convs, model.mask_head.num_filters = 2, 64
    model.roi_generator.pre_nms_top_k, model.roi_generator.num_proposals = 600, 256
    model.roi_generator.test_num_proposals = 300
    model.roi_sampler.num_sampled_rois, model.roi_sampler.foreground_fraction = 96, 0.5
    model.mask_sampler.num_sampled_masks = 24
    model.detection_generator.max_num_detections = 200
    model.norm_activation.use_sync_bn = False
    # The activations of the first steps have many times the later variance. With the default of
    # 0.99 the moving averages of a run of 400 steps still contain them, and the trained detector
    # finds nothing in inference mode.
    model.norm_activation.norm_momentum = 0.97
    task.annotation_file, task.use_coco_metrics = None, False
    task.losses.l2_weight_decay = 0.0
    for data in (task.train_data, task.validation_data):
        data.global_batch_size = 4
        data.shuffle_buffer_size = 400
        # Some fields have 180 cells. The default limit of 100 would make the others background.
        data.parser.max_num_instances = 256
        # There are only two anchor sizes, so that few anchors reach an IoU of 0.7 with a cell that
        # lies between two strides.
        data.parser.rpn_match_threshold, data.parser.rpn_unmatched_threshold = 0.55, 0.35
        data.parser.rpn_batch_size_per_im = 192
    # The stock loss divides by the number of sampled RoIs instead of sampled anchors.
    task.losses.rpn_score_weight = (
        model.roi_sampler.num_sampled_rois / task.train_data.parser.rpn_batch_size_per_im
    )
    # Most RoIs on real fields are cells of unknown class, which do not count in the class loss.
    task.losses.frcnn_class_weight = 2.0
    config.task = task
    config.runtime.mixed_precision_dtype = "float32"
    config.trainer = SmearTrainer()
    trainer = config.trainer
    trainer.train_steps = 2400
    trainer.steps_per_loop, trainer.summary_interval, trainer.checkpoint_interval = 20, 20, 100
    trainer.validation_interval, trainer.validation_steps = 300, -1
    trainer.max_to_keep = 3
    trainer.optimizer_config = optimization.OptimizationConfig(
        {
            # gradient_clip_norm would clip the gradients of each replica. global_clipnorm clips
            # their sum, as on one device.
            "optimizer": {
                "type": "adamw",
                "adamw": {
                    "weight_decay_rate": 0.01,
                    "gradient_clip_norm": 0.0,
                    "global_clipnorm": 5.0,
                },
            },
            "learning_rate": {
                "type": "cosine",
                "cosine": {"initial_learning_rate": 1e-3, "decay_steps": 2400, "alpha": 0.01},
            },
            "warmup": {
                "type": "linear",
                "linear": {"warmup_steps": 150, "warmup_learning_rate": 1e-5},
            },
        }
    )
    config.restrictions = []
    return config
