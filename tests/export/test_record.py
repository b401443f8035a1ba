"""The table of exports in the README is what `bonefrac-export table` makes of the committed records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason='needs the extra: pip install ".[export]"')

from bonefrac.model import read_manifest
from bonefrac_export.record import read_record, table

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "benchmarks" / "reports" / "export").glob("*.json"))


def test_the_readme_shows_the_table_of_the_committed_exports() -> None:
    assert table(RECORDS) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_flagships_record_is_of_the_bundle_that_ships() -> None:
    record = read_record(ROOT / "benchmarks" / "reports" / "export" / "flagship.json")
    folder = ROOT / "models" / "flagship"
    manifest = read_manifest(folder)
    assert (record.model, record.version, record.default) == (
        manifest.name,
        manifest.version,
        manifest.default_precision,
    )
    assert record.bytes == {name: (folder / e.file).stat().st_size for name, e in manifest.precisions.items()}
    assert f"{record.auroc[record.default]:.3f}" in manifest.figures["AUROC"]
    assert record.story in manifest.made_with["int8"]
    for entry in manifest.precisions.values():
        assert hashlib.sha256((folder / entry.file).read_bytes()).hexdigest() == entry.sha256


def test_no_film_is_named_in_a_record() -> None:
    for path in RECORDS:
        assert not {".jpg", ".png", ".dcm"} & {
            word[-4:] for word in json.dumps(json.loads(path.read_text())).split('"')
        }
