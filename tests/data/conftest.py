"""Caches of the hub and of tfds, made on the spot with harmless rows."""

from __future__ import annotations

import gzip
import io
import json
import pathlib
from collections.abc import Callable

import pytest


def as_bytes(name: str, content: list[dict] | str | bytes) -> bytes:
    """A file's content: rows are written as its name says."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    if name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        buffer = io.BytesIO()
        parquet.write_table(pyarrow.Table.from_pylist(content), buffer)
        return buffer.getvalue()
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in content)
    text = json.dumps(content) if ".json." in name else lines
    return gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()


@pytest.fixture
def fill() -> Callable[..., pathlib.Path]:
    """A function to a folder with the files given by name."""

    def write(folder: pathlib.Path, files: dict[str, list[dict] | str | bytes]) -> pathlib.Path:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(as_bytes(name, content))
        return folder

    return write


@pytest.fixture
def offline_hub(tmp_path, monkeypatch, fill) -> Callable[..., pathlib.Path]:
    """A function that puts a set into an offline hub's cache, as `main` and as a commit."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name: str, files: dict[str, list[dict] | str | bytes], commit: str = "c" * 40):
        folder = tmp_path / "hub" / f"datasets--{name.replace('/', '--')}"
        fill(folder, {"refs/main": commit})
        return fill(folder / "snapshots" / commit, files)

    return put


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Callable[..., pathlib.Path]:
    """A function that prepares a tfds set of texts, and leaves no code of it behind."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered
    from tensorflow_datasets.core.utils import file_utils

    monkeypatch.setattr(file_utils.constants, "DATA_DIR", str(tmp_path / "tfds"))

    def prepare(set_name: str, config: str, rows: list[dict[str, str]], form="array_record"):
        with registered.skip_registration():

            class Builder(tfds.core.GeneratorBasedBuilder):
                name = set_name
                VERSION = tfds.core.Version("1.3.0")
                BUILDER_CONFIGS = (tfds.core.BuilderConfig(name=config, version="1.3.0"),)
                pkg_dir_path = tmp_path

                def _info(self):
                    texts = {key: tfds.features.Text() for key in rows[0]}
                    features = tfds.features.FeaturesDict(texts)
                    return tfds.core.DatasetInfo(builder=self, features=features)

                def _split_generators(self, dl_manager):
                    return {"train": self._generate_examples()}

                def _generate_examples(self):
                    yield from enumerate(rows)

        builder = Builder(config=config, data_dir=tmp_path / "tfds", file_format=form)
        builder.download_and_prepare()
        return pathlib.Path(builder.data_dir)

    return prepare
