"""`bonefrac-export`: thin."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bonefrac.errors import BonefracError, UsageError

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE_OR_FOLDER = click.Path(exists=True, path_type=Path)


class _UsageFailure(click.ClickException):
    exit_code = 2


class _ExportUnlessNamed(click.Group):
    """`bonefrac-export MODEL ...` exports; `bonefrac-export verify ...` and `table ...` are commands of their own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = not args or args == ["--help"] or args[0] in self.commands
        return super().parse_args(ctx, args if named else ["export", *args])


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise _UsageFailure(str(error)) from error
    except BonefracError as error:
        raise click.ClickException(str(error)) from error


@click.group(cls=_ExportUnlessNamed)
def main() -> None:
    """Turn a trained Keras network into a verified bundle: bonefrac-export MODEL, see bonefrac-export export --help."""


@main.command()
@click.argument("network", metavar="MODEL", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The bundle's folder; replaced when all checks pass."
)
@click.option("--calibration", type=_FILE_OR_FOLDER,
              help="Films that set the ranges of int8: a folder of pictures, or a table as for --labels.")  # fmt: skip
@click.option("--labels", type=_FILE_OR_FOLDER,
              help="Labelled films to measure on: labels.csv (image_id, fractured 0 or 1, fold, group, use),"
              " or its folder, with images/ and, for places, boxes.csv (image_id, x_min, y_min, x_max, y_max).",
              )  # fmt: skip
@click.option("--data", type=_FOLDER, help="Short for --calibration and --labels: their folds are kept apart.")
@click.option("--fold", type=int, help="The fold that training never saw, where no training.json beside MODEL says it.")
@click.option("--classes", help="The classes in the order of training, as FIRST,SECOND.")
@click.option("--positive-class", default="", help="Which class is the fracture, by its name, or its number from 0.")
@click.option(
    "--output", type=click.Choice(["logit", "probability", "box"]), help="What the output is, if that is asked."
)
@click.option("--scaling", type=click.Choice(["0..1", "-1..1", "caffe", "torch", "none"]),
              help="What training did to pixels of 0..255.")  # fmt: skip
@click.option(
    "--color", type=click.Choice(["gray", "rgb", "bgr"]), help="Order of the channels, where their means differ."
)
@click.option("--resize", type=click.Choice(["bilinear", "area"]), help="How training made films smaller.")
@click.option("--fit", type=click.Choice(["stretch", "letterbox"]), help="How training made films fit the input.")
@click.option("--size", type=click.IntRange(32, 4096), help="Side in px, for a network that takes any.")
@click.option("--classifier", type=_FILE_OR_FOLDER, help="Network that decides whether MODEL's box is shown.")
@click.option("--sensitive-point", type=float, help="Doubt from this probability on; only needed without labels.")
@click.option("--specific-point", type=float, help="Fracture from this probability on; only needed without labels.")
@click.option("--precision", type=click.Choice(["int8", "float32"]), default="int8", show_default=True,
              help="float32 leaves int8 out; float32 itself is always there.")  # fmt: skip
@click.option("--method", type=click.Choice(["minmax", "percentile", "entropy"]),
              default="percentile", show_default=True,
              help="How the calibration films set the ranges of int8.")  # fmt: skip
@click.option("--float16", is_flag=True, help="Add a float16 file, for GPUs.")
@click.option("--other-cpus/--no-other-cpus", default=True, show_default=True,
              help="Run int8 under older processors too, where qemu-x86_64 can emulate them: minutes.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path),
              help="Folder for a page with all figures and the films that int8 decides otherwise: it shows films."
              "  [default: OUT-report, with --labels]")  # fmt: skip
@click.option("--data-name", help="What the training films are called, for the card's credit.")
@click.option("--data-licence", help="Under which licence they are.")
@click.option("--data-source", help="Who made them and where they are found.")
@click.option("--unlike", type=_FOLDER,
              help="Folder of pictures of other things than limbs; the card says how many are set aside.")  # fmt: skip
@click.option("--name", help="What the model is called.  [default: as its folder]")
@click.option("--version", default="0.1.0", show_default=True)
@click.pass_context
def export(ctx: click.Context, /, **options: Any) -> None:
    """Turn a trained Keras network into a verified bundle: ONNX files, golden samples, card.

    MODEL is a .keras or .h5 file of Keras 3 or 2, or a SavedModel's folder. What bonefrac-train wrote beside its
    network.keras is read; of other networks say how they were trained. Nothing is guessed: what is missing is asked.

    \b
    Example: bonefrac-export keras_model.h5 --out models/mine --data films --fold 0 \\
      --classes fractured,normal --positive-class fractured --scaling -1..1 --resize bilinear --fit stretch
    """
    with _one_sentence():
        from bonefrac_export.bundle import export_bundle  # TensorFlow takes seconds to import

        settings = _settings(options, _asked(ctx))
        for name, value in export_bundle(settings).items():
            click.echo(f"{name}: {value}")
        click.echo(f"Bundle: {settings.out}")
        if settings.report is not None:
            click.echo(f"Report: {settings.report / 'accuracy.html'} (it shows films: keep it as you keep them)")


@main.command()
@click.argument("bundle", metavar="BUNDLE")
@click.option("--labels", required=True, type=_FILE_OR_FOLDER, help="Labelled films: labels.csv, or its folder.")
@click.option("--fold", type=click.IntRange(0), help="[default: the fold that the bundle was never trained on]")
@click.option("--all-folds", is_flag=True, help="Every film: right for films that it was not trained on.")
@click.option("--other-cpus/--no-other-cpus", default=True, show_default=True,
              help="Run int8 under older processors too, where qemu-x86_64 can emulate them: minutes.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), help="Folder for the page, which shows films, and figures.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="File for the checks.")
def verify(bundle: str, json_file: Path | None, **options: Any) -> None:
    """Ask a bundle the questions again that it had to answer when it was exported: on other films, or another machine.

    Needs no TensorFlow. Exit status: 0 everything holds, 1 something does not.

    \b
    Example: bonefrac-export verify models/mine --labels films --all-folds
    """
    with _one_sentence():
        from bonefrac_export.verify import VerifySettings, verify_bundle

        checks = verify_bundle(VerifySettings(bundle, **options))
        for check in checks:
            click.echo(f"{'holds' if check.holds else 'FAILS'}  {check}")
        if json_file is not None:
            json_file.write_text(json.dumps([vars(check) for check in checks], indent=1) + "\n", encoding="utf-8")
        if not all(check.holds for check in checks):
            raise click.exceptions.Exit(1)


@main.command()
@click.argument("records", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def table(records: tuple[Path, ...]) -> None:
    """Write what exports came to as a table in Markdown, from the export.json in their reports.

    \b
    Example: bonefrac-export table models/*-report/export.json
    """
    with _one_sentence():
        from bonefrac_export.record import table

        click.echo(table(records), nl=False)


def _asked(ctx: click.Context) -> str:
    """The arguments that were given, as one would type them; of paths the last part: the rest is of this machine."""
    words = []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if ctx.get_parameter_source(name) != ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[name]
        said = value.name if isinstance(value, Path) else str(value)
        if isinstance(parameter, click.Argument):
            words.append(said)
        elif isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            words += [parameter.opts[0], said]
    return shlex.join(["bonefrac-export", *words])


def _settings(options: dict[str, Any], asked_for: str) -> Any:
    from bonefrac_export.bundle import ExportSettings
    from bonefrac_export.heads import Asked
    from bonefrac_export.inputs import Told
    from bonefrac_export.network import Reading

    data, classes = options.pop("data"), options.pop("classes")
    points = options.pop("sensitive_point"), options.pop("specific_point")
    if len([point for point in points if point is None]) == 1:
        raise UsageError("--sensitive-point and --specific-point go together")
    calibration, labels = options.pop("calibration") or data, options.pop("labels") or data
    if calibration is None:
        raise UsageError("films are needed: give --calibration, or --data for films with labels")
    classes = tuple(name.strip() for name in classes.split(",")) if classes else ()
    asked = Asked(classes, options.pop("positive_class"), options.pop("output"))
    told = Told(*(options.pop(name) for name in ("scaling", "color", "resize", "fit")))
    return ExportSettings(
        calibration=calibration,
        labels=labels,
        points=None if None in points else points,
        reading=Reading(asked, told, options.pop("size")),
        report=options.pop("report") or (labels and options["out"].parent / f"{options['out'].name}-report"),
        asked=asked_for,
        name=options.pop("name") or options["out"].name,
        **{name: value for name, value in options.items() if value is not None},
    )
