"""`bonefrac-train`: thin."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from bonefrac.errors import BonefracError, UsageError
from bonefrac_training.table import ORDER


@click.group()
def main() -> None:
    """Train fracture networks on labelled radiographs. Every figure is on groups that training never saw."""


@main.command()
@click.option("--model", default="flagship", show_default=True, type=click.Choice(ORDER),
              help="The network; the README's table says what came out of each.")  # fmt: skip
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with images/, labels.csv and boxes.csv, or with a split.csv of bonefrac-train audit.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints and history.csv.")
@click.option("--split", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Table with the columns image, label, group and fold, instead of the data's own; boxes come from a "
              "boxes.csv beside it.")  # fmt: skip
@click.option("--positive-class", help="The label that means a fracture, where its name does not tell.")
@click.option("--fold", default=3, show_default=True, help="Validation fold; all others train.")
@click.option("--image-size", type=click.IntRange(64, 1024),
              help="Input, px; a multiple of 32. If not given, 448 for the flagship, 224 for others.")  # fmt: skip
@click.option("--epochs", default=6, show_default=True, type=click.IntRange(1),
              help="How often as many films as there are to train with are drawn; learning rates fall to 0 "
              "with the last.")  # fmt: skip
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(2), help="Films a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="The network's own if not given.")
@click.option(
    "--weights", help="ImageNet trunk (.npz), imagenet (Keras downloads it), a .keras file to go on from, or none."
)
@click.option("--frozen-epochs", type=click.IntRange(0),
              help="With ImageNet weights: epochs before the trunk learns too. 1, flagship 0.")  # fmt: skip
@click.option("--fixed-until", metavar="LAYER",
              help="This layer and those before it never learn, which saves time where they are good.")  # fmt: skip
@click.option("--without", multiple=True, metavar="NAME",
              help="Leave out an augmentation: rotation, zoom, shift, flips, gamma, contrast, brightness, noise or "
              "collimation. Repeatable.")  # fmt: skip
@click.option("--patience", default=8, show_default=True, type=click.IntRange(1),
              help="End after so many epochs without a better validation; cuts short only longer runs.")  # fmt: skip
@click.option("--budget-minutes", type=click.FloatRange(0, min_open=True),
              help="End after so much training, all resumed parts together.")  # fmt: skip
@click.option("--mixed-precision", is_flag=True, help="Compute in bfloat16; weights and files stay float32.")
@click.option("--seed", default=1, show_default=True,
              help="Of first weights, batches and augmentation; the same seed, the same batches.")  # fmt: skip
@click.option(
    "--resume/--restart", default=True, show_default=True, help="Go on from the last checkpoint, or begin anew."
)
def fit(**options: object) -> None:
    """Train a network; the same command goes on where it was stopped, to the step.

    Decoded films are kept in the folder cache beside --out, for other runs on the same films; it may be deleted.
    TensorFlow's own messages are shown where TF_CPP_MIN_LOG_LEVEL is set.

    \b
    Example: bonefrac-train fit --data fracatlas --weights efficientnet_lite0.npz --out runs/320 --image-size 320
    """
    with _told():
        with _quiet():
            from bonefrac_training.fit import FitSettings, fit  # Keras takes seconds to import: not for --help
        fit(FitSettings(**options))  # type: ignore[arg-type]  # Click has checked the types


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="The folder that the runs were trained with.")  # fmt: skip
@click.option("--split", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="As with fit.")
@click.option("--positive-class", help="As with fit.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the mean, a run of its own.")
def average(**options: object) -> None:
    """Average the weights of RUNS, each of which went on from the one before it, and measure the mean.

    \b
    Example: bonefrac-train average runs/320 runs/512 --data fracatlas --out runs/mean
    """
    with _told():
        with _quiet():
            from bonefrac_training.average import AverageSettings, average
        click.echo(f"{average(AverageSettings(**options))}: written")  # type: ignore[arg-type]  # Click has checked


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def table(runs: tuple[Path, ...]) -> None:
    """Print the Markdown table of RUNS, from the figures that each run measured.

    \b
    Example: bonefrac-train table runs/*
    """
    from bonefrac_training.table import table

    with _told():
        click.echo(table(runs), nl=False)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def folds(runs: tuple[Path, ...]) -> None:
    """Print the Markdown table of RUNS of one training on several folds, with mean and spread.

    \b
    Example: bonefrac-train folds runs/fold-*
    """
    from bonefrac_training.cross_validation import cross_validation

    with _told():
        click.echo(cross_validation(runs), nl=False)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True,
              help="The folder that the runs were trained with.")  # fmt: skip
@click.option("--split", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="As with fit.")
@click.option("--positive-class", help="As with fit.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON file for the figures."
)
def ablation(**options: object) -> None:
    """Measure what each augmentation is worth: RUNS of fit that differ in --without alone, on the same films.

    \b
    Example: bonefrac-train ablation runs/all runs/without-* --data fracatlas --out ablation.json
    """
    with _told():
        with _quiet():
            from bonefrac_training.ablation import AblationSettings, ablation, ablation_table
        click.echo(ablation_table(ablation(AblationSettings(**options))), nl=False)  # type: ignore[arg-type]


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def unlike(folder: Path) -> None:
    """Write pictures that are no limb films into a new FOLDER: photographs, a chest film, noise, a screen.

    bonefrac-export --unlike measures how many of them a model sets aside. Needs scikit-image, pydicom and pydicom-data.

    \b
    Example: bonefrac-train unlike pictures
    """
    with _told():
        from bonefrac_training.unlike import write_unlike

        click.echo(f"{folder}: {len(write_unlike(folder))} pictures")


@main.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results. [default: DATA-audit, beside DATA]")
@click.option("--positive-class", multiple=True, metavar="NAME",
              help="The class that means a fracture, where its name does not tell. Repeatable.")  # fmt: skip
@click.option("--folds", default=5, show_default=True, type=click.IntRange(2), help="Folds to propose in split.csv.")
@click.option("--features", default=40, show_default=True, type=click.IntRange(0),
              help="Films of each class whose hand-made features are measured; 0 leaves them out.")  # fmt: skip
@click.option("--seed", default=1, show_default=True, help="Of the folds, and of what is drawn at random to measure.")
def audit(data: Path, out: Path | None, **options: object) -> None:
    """Is this data set honest? Find leaks, contradictions, damage and shortcuts in DATA, and propose folds.

    Reads class folders, YOLO, COCO, Pascal VOC, MURA, or a table labels.csv. Writes audit.html, audit.json,
    split.csv and boxes.csv. Exit status: 0 clean, 1 something makes figures untrustworthy or no folds can be made, 2 it
    cannot be done as asked.

    \b
    Example: bonefrac-train audit fracatlas --out fracatlas-audit
    """
    with _told():
        from bonefrac_training.audit import AuditSettings, audit

        place = out or data.resolve().with_name(data.resolve().name + "-audit")
        result = audit(AuditSettings(data, place, **options))  # type: ignore[arg-type]  # Click has checked the types
    for finding in result.findings:
        click.echo(f"{finding.severity}: {finding.title}")
    click.echo(f"{place / 'audit.html'} shows it.")
    raise SystemExit(0 if result.honest else 1)


@contextmanager
def _told() -> Iterator[None]:
    """What bonefrac raises on purpose, and a package that is not installed, is one sentence for a person, and exit
    status 1 or 2."""
    try:
        yield
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing.startswith("bonefrac"):
            raise
        raise click.UsageError(f'{missing} is missing: pip install "bonefrac[train]"') from error
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    except BonefracError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keras is imported without TensorFlow's lines on oneDNN and CUDA, some of which heed no setting: they are kept
    back, and shown if the import fails. Who sets TF_CPP_MIN_LOG_LEVEL gets them all."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(shown, kept.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
