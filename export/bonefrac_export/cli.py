"""`bonefrac-export`: thin."""

from __future__ import annotations

from pathlib import Path

import click

from bonefrac.errors import BonefracError


@click.command()
@click.argument("network", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder with images/, labels.csv and boxes.csv.")  # fmt: skip
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder; replaced when all checks pass."
)
@click.option("--data-name", required=True, help="What the films are called, for the card's credit.")
@click.option("--data-licence", required=True, help="Under which licence the films are.")
@click.option("--data-source", required=True, help="Who made them and where they are found.")
@click.option("--unlike", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of pictures of other things than limbs; the card says how many are set aside.")  # fmt: skip
@click.option("--name", default="flagship", show_default=True)
@click.option("--version", default="0.1.0", show_default=True)
def main(**options: object) -> None:
    """Turn bonefrac-train's network.keras into a verified bundle: float32 and int8 ONNX, golden samples, card.

    \b
    Example: bonefrac-export runs/448/network.keras --data films --out models/mine \\
      --data-name "Our films" --data-licence private --data-source "Our hospital, 2026"
    """
    from bonefrac_export.bundle import ExportSettings, export_bundle  # TensorFlow takes seconds to import

    try:
        figures = export_bundle(ExportSettings(**options))  # type: ignore[arg-type]  # Click has checked the types
    except BonefracError as error:
        raise click.ClickException(str(error)) from error
    for name, value in figures.items():
        click.echo(f"{name}: {value}")
