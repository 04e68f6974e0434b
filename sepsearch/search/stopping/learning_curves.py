"""Learning-curve model: prediction of a trial's final value from its first epochs, with a prior shared by all trials.

The logarithm of a value after epoch t is modelled as

    log y(t) = a + b log t + w B(log t) + s e(t)

a power law with the scale exp(a) and the exponent b of the trial, a Brownian motion B in log t for curves that are no
power law, and independent noise e. (a, b) is normal over trials. Its mean and covariance are fitted to all curves by
expectation maximization (empirical Bayes), (w, s) by marginal likelihood over a grid; predictions are those of a
Gaussian process. Curves that end early count as far as they go.

It is the stated simple alternative to pretrained models such as FT-PFN (Rakotoarison et al. 2024, "In-Context
Freeze-Thaw Bayesian Optimization", arXiv 2404.16795), whose weights are not part of a package. The decision by the
probability of beating the best follows Domhan et al. 2015, "Speeding up automatic hyperparameter optimization of deep
neural networks by extrapolation of learning curves".
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BROWNIAN = (0.1, 0.2, 0.4)  # w: standard deviation of the change of log y over a unit of log t
NOISE = (0.02, 0.05, 0.1)  # s: standard deviation of log y from epoch to epoch
ITERATIONS = 12  # of expectation maximization
# What is believed before there is a curve, with the weight of so many curves: values fall by a fifth per unit of log t.
PRIOR_MEAN, PRIOR_MEAN_WEIGHT = (-0.3, -0.2), 1.0
PRIOR_DEVIATION, PRIOR_DEVIATION_WEIGHT = (0.2, 0.1), 3.0


@dataclass(frozen=True)
class Fit:
    """Hyperparameters: mean (2,) and covariance (2, 2) of (a, b), w, s, and their log marginal likelihood."""

    mean: np.ndarray
    covariance: np.ndarray
    brownian: float
    noise: float
    likelihood: float


class LearningCurveModel:
    """Predicts the value after the last epoch.

    Args:
        epochs: the full budget, at least 1.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs
        time = np.log(np.arange(1, epochs + 1))
        self._design = np.stack([np.ones(epochs), time], axis=1)  # (epoch, coefficient)
        self._kernel = np.minimum.outer(time, time)  # of B, (epoch, epoch)
        self._whitening = {
            (w, s): np.linalg.inv(np.linalg.cholesky(w * w * self._kernel + s * s * np.eye(epochs)))
            for w, s in itertools.product(BROWNIAN, NOISE)
        }
        self._fit = self._best_fit([])

    def fit(self, curves: Sequence[Sequence[float]]) -> None:
        """Fit the hyperparameters to curves: values above 0 after epochs 1, 2, …, each of at least one epoch."""
        self._fit = self._best_fit([np.log(curve) for curve in curves])

    def predict(self, curve: Sequence[float]) -> tuple[float, float]:
        """Mean and standard deviation of the logarithm of the value after the last epoch.

        Args:
            curve: values above 0 after epochs 1, 2, …
        """
        fit, known = self._fit, len(curve)
        mean = self._design @ fit.mean
        covariance = self._design @ fit.covariance @ self._design.T + fit.brownian**2 * self._kernel
        observed = covariance[:known, :known] + fit.noise**2 * np.eye(known)
        weights = np.linalg.solve(observed, covariance[:known, -1])
        residual = np.log(curve) - mean[:known]
        variance = covariance[-1, -1] + fit.noise**2 - covariance[-1, :known] @ weights
        return float(mean[-1] + weights @ residual), math.sqrt(max(float(variance), 1e-12))

    def probability_below(self, curve: Sequence[float], value: float) -> float:
        """Probability that the value after the last epoch is below another one, above 0."""
        mean, deviation = self.predict(curve)
        return 0.5 * math.erfc((mean - math.log(value)) / (deviation * math.sqrt(2)))

    def _best_fit(self, curves: Sequence[np.ndarray]) -> Fit:
        return max((self._fit_one(curves, w, s) for w, s in self._whitening), key=lambda fit: fit.likelihood)

    def _fit_one(self, curves: Sequence[np.ndarray], w: float, s: float) -> Fit:
        """The fit for given w and s; `curves` are logarithms.

        Whitened by the inverse of the Cholesky factor of the covariance of w B + s e, whose leading blocks whiten
        curves that end early, every curve is a linear model of (a, b) with unit noise.
        """
        whitening = self._whitening[w, s]
        design = whitening @ self._design
        targets = [whitening[: len(curve), : len(curve)] @ curve for curve in curves]
        gram = np.array([design[: len(one)].T @ design[: len(one)] for one in targets]).reshape(-1, 2, 2)
        moment = np.array([design[: len(one)].T @ one for one in targets]).reshape(-1, 2)
        prior_mean, prior_covariance = np.array(PRIOR_MEAN), np.diag(np.square(PRIOR_DEVIATION))
        mean, covariance = prior_mean, prior_covariance
        for _ in range(ITERATIONS if curves else 0):
            precision = np.linalg.inv(covariance)
            posterior = np.linalg.inv(precision + gram)  # (curve, 2, 2)
            coefficients = np.einsum("nij,nj->ni", posterior, precision @ mean + moment)
            mean = (coefficients.sum(0) + PRIOR_MEAN_WEIGHT * prior_mean) / (len(curves) + PRIOR_MEAN_WEIGHT)
            spread = coefficients - mean
            scatter = posterior.sum(0) + spread.T @ spread + PRIOR_DEVIATION_WEIGHT * prior_covariance
            covariance = scatter / (len(curves) + PRIOR_DEVIATION_WEIGHT)
        squares = np.array([one @ one for one in targets])
        logs = np.concatenate([[0.0], np.cumsum(np.log(np.diag(whitening)))])[[len(one) for one in targets]]
        likelihood = float((_evidence(gram, moment, squares, mean, covariance) + logs).sum()) if curves else 0.0
        return Fit(mean, covariance, w, s, likelihood)


def _evidence(
    gram: np.ndarray, moment: np.ndarray, squares: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """Log marginal likelihood of whitened curves but for a constant, (curve,)."""
    residual = moment - gram @ mean
    posterior = np.linalg.inv(np.linalg.inv(covariance) + gram)
    distance = squares - 2 * moment @ mean + np.einsum("i,nij,j->n", mean, gram, mean)
    distance -= np.einsum("ni,nij,nj->n", residual, posterior, residual)
    evidence: np.ndarray = -0.5 * (distance + np.linalg.slogdet(np.eye(2) + covariance @ gram)[1])
    return evidence
