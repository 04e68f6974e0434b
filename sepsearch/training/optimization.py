"""Optimizer, learning-rate schedule and weight averaging of a training configuration."""

import math

import torch
from torch import nn

from sepsearch.models.training_config import TrainingConfig


def make_optimizer(network: nn.Module, settings: TrainingConfig) -> torch.optim.Optimizer:
    """Adam with an L2 penalty, which adds weight_decay · w to the gradient as the reference does, or AdamW."""
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(network.parameters(), lr=settings.learning_rate, weight_decay=settings.l2)


def learning_rate(settings: TrainingConfig, step: int, steps: int) -> float:
    """The learning rate of a step, counted from 0, of so many: linear warm-up, then constant or half a cosine to 0."""
    rising = settings.warmup * steps
    if step < rising:
        return settings.learning_rate * (step + 1) / (rising + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Take the weights after a step, counted from 0, into their exponential moving average.

    The decay begins low, (1 + step) / (10 + step), so that the first weights are soon forgotten.
    """
    decay = min(decay, (1 + step) / (10 + step))
    for mean, current in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(current, 1 - decay)
        else:
            mean.copy_(current)
