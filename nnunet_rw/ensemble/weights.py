"""How much each model counts for each class, and the JSON file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.evaluation.labels import Labels

_ROUNDING = 1e-6


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
        """The values for predictions in these folders: (M, C), by name where all folders are named as the models.

        Other names say nothing, so then the folders must come in the order of `models`.

        Raises
        ------
        ValueError
            There are not as many folders as models.
        """
        if len(folders) != len(self.models):
            raise ValueError(
                f"Expected a folder for each of the {len(self.models)} models of the weights, "
                f"{', '.join(self.models)}, but got {len(folders)}."
            )
        names = [Path(folder).name for folder in folders]
        if sorted(names) == sorted(self.models):
            return self.values[[self.models.index(name) for name in names]]
        return self.values

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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No {path}. Run: nnunet-rw ensemble --fit")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        models, channels = tuple(content["models"]), tuple(content["weights"])
        values = [[float(content["weights"][channel][model]) for channel in channels] for model in models]
        volumes = {channel: float(volume) for channel, volume in content.get("min_component_mm3", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no weights of an ensemble. Run: nnunet-rw ensemble --fit") from error
    try:
        return EnsembleWeights(models, channels, np.array(values).reshape(len(models), len(channels)), volumes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
