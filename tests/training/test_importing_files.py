"""Files of others: tensors are read, programs are not, and damage is named."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from training.importing.errors import ImportingError, SourceError, UnsafeSourceError
from training.importing.tensors import read_source

TENSORS = {"a.weight": torch.ones(2), "a.num_batches_tracked": torch.tensor(3)}


class Program:
    """What would run when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("is_nested", [False, True])
def test_tensors_are_found(tmp_path: Path, is_nested: bool) -> None:
    path = tmp_path / "w.pt"
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    nested = {"epoch": 3, "model": TENSORS, "optimizer": optimizer}
    torch.save(nested if is_nested else TENSORS, path)
    found = read_source(path)
    assert list(found.tensors) == ["a.weight"]
    assert found.key == ("model" if is_nested else "")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert list(read_source(tmp_path / "w.safetensors").tensors) == ["a.weight"]


def test_of_several_sets_one_is_chosen_by_its_key(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"model": TENSORS, "ema": {"a.weight": torch.zeros(2)}}, path)
    with pytest.raises(SourceError, match=r"several sets of tensors .*'model', 'ema'.* --key"):
        read_source(path)
    assert not read_source(path, "ema").tensors["a.weight"].any()
    with pytest.raises(SourceError, match=r"no tensors under 'mean'; it has 'model', 'ema'"):
        read_source(path, "mean")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("is_plain", [True, False])
def test_programs_in_pickles_never_run(tmp_path: Path, protocol: int, is_plain: bool) -> None:
    path = tmp_path / "w.pth"
    content = {"state_dict": TENSORS, "extra": Program(tmp_path / "ran")}
    if is_plain:
        path.write_bytes(pickle.dumps(content["extra"], protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol)
    with pytest.raises(UnsafeSourceError, match="holds Python objects"):
        read_source(path)
    assert not (tmp_path / "ran").exists()


def test_whole_networks_are_refused_by_the_name_of_their_class(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(UnsafeSourceError, match=r"torch.nn.modules.linear.Linear.*state_dict\(\)"):
        read_source(tmp_path / "w.pth")


def test_torchscript_is_refused_as_a_program(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with warnings.catch_warnings(action="ignore"):  # that it is deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(UnsafeSourceError, match="TorchScript"):
        read_source(path)


def write(path: Path, content: object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("w.pth", b"", "is not a complete PyTorch file"),
        ("w.pth", b"hello", "is not a complete PyTorch file"),
        ("w.safetensors", b"hello", "is not a complete safetensors file"),
        ("w.h5", b"hello", "is of an unknown kind"),
        ("w.pth", [torch.ones(2)], "holds no tensors by name"),
        ("w.pth", {"epoch": 3}, "has no tensors by name ('epoch')"),
        ("w.pth", {"a": torch.tensor([torch.nan])}, "a has values that are not finite"),
        ("w.pth", {"a": torch.ones(2).to_sparse()}, "a is not a plain tensor"),
        ("w.pth", {"a": torch.ones(2, dtype=torch.complex64)}, "a is not a plain tensor"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, name: str, content: object, sentence: str) -> None:
    with pytest.raises(ImportingError) as caught:
        read_source(write(tmp_path / name, content))
    assert sentence in str(caught.value)


def test_half_a_file_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", TENSORS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match="is not a complete PyTorch file"):
        read_source(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"There is no file .*w.pth"):
        read_source(tmp_path / "w.pth")
