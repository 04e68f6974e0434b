"""How a network is trained, whatever its family: outputs, examples, optimizer, schedule, averaging."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sepsearch.utils.validation import STRICT


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """Settings of training; the defaults are the reference's.

    `heads`: "one" trains a network per instrument, "all" one network with an output per instrument, whose loss counts
    only the instruments that play.
    `frames`: of an example; `offsets`: "clip" takes it from the beginning of a clip, "random" from anywhere in a clip
    and the one after it.
    `l2`: an L2 penalty of Adam, or the decoupled weight decay of AdamW (Loshchilov and Hutter 2019).
    `schedule`: "cosine" falls to 0 at the last step; `warmup` is the share of all steps in which the learning rate
    rises. `clip_norm`: the largest norm of a step's gradient, 0 for any.
    `averaging`: decay of the exponential moving average of the weights that is validated and kept, 0 for none.
    """

    heads: Literal["one", "all"] = "one"
    frames: Literal[64, 128] = 128
    offsets: Literal["clip", "random"] = "clip"
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    l2: Annotated[float, Field(ge=0, le=10)] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
