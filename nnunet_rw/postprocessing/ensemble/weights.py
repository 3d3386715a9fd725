"""How much each model counts for each class: chosen, and kept in a JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from typing_extensions import NotRequired, TypedDict

from nnunet_rw.datasets.folders import Labels
from nnunet_rw.postprocessing.predictions import trained_model_of
from nnunet_rw.util.advice import command
from nnunet_rw.util.readers import read_json, told

_ROUNDING = 1e-6


class _Content(TypedDict):
    """Of the file."""

    models: list[str]
    weights: dict[str, dict[str, float]]
    min_component_mm3: NotRequired[dict[str, float]]


@dataclass(frozen=True, eq=False)
class EnsembleWeights:
    """Convex weights of M models for each of C channels of the probabilities.

    Attributes
    ----------
    models : tuple of M str
    channels : tuple of C str
        As `channel_names` returns them.
    values : float64 (M, C)
        Not below 0; each channel's sum is 1.
    min_component_mm3 : mapping of str to float
        Per foreground channel: smaller predicted components are removed. In mm2 for images of two dimensions.

    Raises
    ------
    ValueError
        The values are no such weights, or a volume is negative or of an unknown channel.
    """

    models: tuple[str, ...]
    channels: tuple[str, ...]
    values: np.ndarray
    min_component_mm3: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.models), len(self.channels))
        if self.values.shape != shape:
            raise ValueError(f"Expected weights of shape {shape}, models by channels, but got {self.values.shape}.")
        sums = self.values.sum(axis=0)
        if not (np.all(self.values >= 0) and np.allclose(sums, 1, rtol=0, atol=_ROUNDING)):
            raise ValueError(
                f"Expected weights from 0 that sum to 1 for each channel, but got sums {_listed(sums)} and the lowest "
                f"weight {self.values.min():.6g}."
            )
        for channel, volume_mm3 in self.min_component_mm3.items():
            if channel not in self.channels or not 0 <= volume_mm3 < np.inf:
                raise ValueError(
                    f"Expected a minimum volume from 0 of one of {', '.join(self.channels)}, but got {volume_mm3} of "
                    f"{channel}."
                )

    def in_order_of(self, folders: Sequence[str | Path]) -> np.ndarray:
        """The values for predictions in these folders: (M, C), in the order of `order`."""
        return self.values[[self.models.index(model) for model in self.order(folders)]]

    def order(self, folders: Sequence[str | Path]) -> tuple[str, ...]:
        """The model that each folder is taken to be of.

        By name where the folders are all named as the models, or are validation folders of the models; other names say
        nothing, so then the folders must come in the order of `models`.

        Raises
        ------
        ValueError
            There are not as many folders as models, or they are validation folders of other models.
        """
        if len(folders) != len(self.models):
            raise ValueError(
                f"Expected a folder for each of the {len(self.models)} models of the weights, "
                f"{', '.join(self.models)}, but got {len(folders)}."
            )
        of_models = [trained_model_of(Path(folder)) for folder in folders]
        trainers = [found[0] for found in of_models if found is not None]
        for names in (trainers, [Path(folder).name for folder in folders]):
            if sorted(names) == sorted(self.models):
                return tuple(names)
        if len(trainers) == len(folders):
            raise ValueError(
                f"Expected predictions of {', '.join(self.models)}, as the weights, but got folders of "
                f"{', '.join(trainers)}."
            )
        return self.models

    def as_json(self) -> dict[str, Any]:
        """For `read_weights`."""
        return {
            "models": list(self.models),
            "weights": {
                channel: {model: float(self.values[m, c]) for m, model in enumerate(self.models)}
                for c, channel in enumerate(self.channels)
            },
            "min_component_mm3": {channel: float(volume) for channel, volume in self.min_component_mm3.items()},
        }


def channel_names(labels: Labels) -> tuple[str, ...]:
    """A name per channel of nnU-Net's probabilities: "0", "1", ... or, without background, "(1, 2)", ... of regions."""
    foreground = tuple(str(label) for label in labels.foreground)
    return foreground if labels.num_channels == len(foreground) else ("0", *foreground)


def read_weights(path: str | Path) -> EnsembleWeights:
    """Weights from the file that ``nnunet-rw ensemble --fit`` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It holds no weights, or no convex ones.
    """
    options = {"dataset": "DATASET", "configuration": "CONFIGURATION", "trainers": ["TRAINER", "TRAINER"]}
    advice = f"Run: {command('ensemble', fit=True, **options, output=Path(path).parent)}"
    fault = "holds no weights of an ensemble"
    content = read_json(path, advice, _Content, fault)
    with told(path, advice, fault):
        models, channels = tuple(content["models"]), tuple(content["weights"])
        values = [[float(content["weights"][channel][model]) for channel in channels] for model in models]
        volumes = {channel: float(volume) for channel, volume in content.get("min_component_mm3", {}).items()}
        return EnsembleWeights(models, channels, np.array(values).reshape(len(models), len(channels)), volumes)


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


# Of the mean volume, added to each case's: so much a case without the class seems to have, and counts by its errors.
_SHARE_OF_MEAN_VOLUME = 0.1
# Chooses among equally good weights, as those of two copies of a model: as close to equal as they can be.
_TIE = 1e-6
_NEGLIGIBLE = 1e-4
_VOXELS_AT_A_TIME = 2**20


@dataclass(frozen=True)
class ClassStatistics:
    """Sums over the voxels of a case, for one class and M models, in mm3.

    Attributes
    ----------
    errors : float64 (M, M)
        Sum of (p_m - y) (p_k - y).
    volume_mm3 : float
        What errors are measured by: the volume of the class, for the background that of all other classes.
    """

    errors: np.ndarray
    volume_mm3: float


def class_statistics(
    probabilities: Sequence[np.ndarray], target: np.ndarray, voxel_mm3: float, background: bool = False
) -> ClassStatistics:
    """Sums of one class in one case.

    Parameters
    ----------
    probabilities : M float arrays (N,)
        Of the class, by each model.
    target : boolean (N,)
        Where the class is.
    voxel_mm3 : float
    background : bool
        The class is the background.
    """
    errors = np.zeros((len(probabilities), len(probabilities)))
    for start in range(0, len(target), _VOXELS_AT_A_TIME):
        part = slice(start, start + _VOXELS_AT_A_TIME)
        residuals = np.stack([model[part] for model in probabilities]).astype(np.float64) - target[part]
        errors += residuals @ residuals.T
    voxels = int(np.count_nonzero(~target if background else target))
    return ClassStatistics(errors * voxel_mm3, voxels * voxel_mm3)


def fit_class_weights(cases: Sequence[ClassStatistics]) -> np.ndarray:
    r"""The convex weights of M models that minimise the squared error of a class, relative to its volume, over cases.

    .. math:: L(w) = w^T \Big( \sum_k \frac{R_k}{v_k + 0.1 \bar v} \Big) w

    with the errors R_k and the volume v_k of case k, and the mean volume :math:`\bar v`. Without renormalisation, see
    `nnunet_rw.postprocessing.ensemble.average.combine`, each class is a problem of its own. Of two classes both have
    the same errors and so the same weights, and there is nothing to renormalise.

    Parameters
    ----------
    cases : sequence of ClassStatistics

    Returns
    -------
    float64 (M,)
        Not below 0, of sum 1. Equal weights where no case has the class or all models are perfect.
    """
    number = len(cases[0].errors)
    equal = np.full(number, 1 / number)
    volumes = np.array([case.volume_mm3 for case in cases])
    if not volumes.any():
        return equal
    scale = 1 / (volumes + _SHARE_OF_MEAN_VOLUME * volumes.mean())
    errors = np.tensordot(scale, [case.errors for case in cases], 1)
    if equal @ errors @ equal <= 0:
        return equal
    errors = errors / (equal @ errors @ equal) + _TIE * np.eye(number)
    found = minimize(
        lambda weights: (weights @ errors @ weights, 2 * errors @ weights),
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * number,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    weights = np.where(found.x < _NEGLIGIBLE, 0, found.x)
    if not np.all(np.isfinite(weights)) or weights.sum() <= 0:
        return equal
    return weights / weights.sum()
