"""`bonefrac-train`: thin."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def main() -> None:
    """Train fracture networks on labelled radiographs. Every figure is on groups that training never saw."""


@main.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="Folder with images/, labels.csv and boxes.csv.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints and history.csv.")
@click.option(
    "--image-size", default=448, show_default=True, type=click.IntRange(64, 1024), help="Input, px; a multiple of 32."
)
@click.option("--fold", default=3, show_default=True, help="Validation fold; all others train.")
@click.option("--epochs", default=6, show_default=True, type=click.IntRange(1))
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="ImageNet trunk (.npz) or a .keras file to go on from; without it, from scratch.")  # fmt: skip
@click.option("--seed", default=1, show_default=True)
def fit(**options: object) -> None:
    """Train the flagship; the same command goes on where it was stopped.

    \b
    Example: bonefrac-train fit --data fracatlas --weights efficientnet_lite0.npz --out runs/320 --image-size 320
    """
    from bonefrac_training.fit import FitSettings, fit  # Keras takes seconds to import: not for --help

    fit(FitSettings(**options))  # type: ignore[arg-type]  # Click has checked the types
