"""Tables: what is read, how it is scaled and split, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.lab.artifacts import load_tensors
from engine.lab.data.bundled_table import BundledTable
from engine.lab.data.csv_table import CSVTable
from engine.spec.component import DataInfo
from engine.spec.errors import BadInput
from engine.spec.plan import make_plan
from tests.helpers import run_plan, small_experiment

HEADER = "age,town,income,risk\n"
ROWS = [
    f"{20 + 3 * n},{'north' if n % 3 else 'south'},{1000 * n},{'high' if n % 2 else 'low'}\n"
    for n in range(40)
]


def write(folder: Path, rows: list[str], header: str = HEADER, name: str = "t.csv") -> str:
    path = folder / name
    path.write_text(header + "".join(rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("table", "rows", "columns", "classes"),
    [
        ("breast-cancer", 569, 30, 2),
        ("wine", 178, 13, 3),
        ("iris", 150, 4, 3),
        ("digits", 1797, 64, 10),
    ],
)
def test_the_bundled_tables_are_those_of_scikit_learn(
    table: str, rows: int, columns: int, classes: int
) -> None:
    import sklearn.datasets as sets

    data = BundledTable(table=table)
    info, arrays = data.inspect(), data.read()
    assert (info.train + info.test, info.shape, len(info.classes)) == (
        rows,
        (columns, 1, 1),
        classes,
    )
    load = {
        "breast-cancer": sets.load_breast_cancer,
        "wine": sets.load_wine,
        "iris": sets.load_iris,
    }
    x, y = load.get(table, sets.load_digits)(return_X_y=True)
    # The same rows, up to order, and an affine map a column: ranks agree column by column.
    train, test = arrays["train_x"][:, :, 0, 0], arrays["test_x"][:, :, 0, 0]
    ours = np.concatenate([train, test])
    assert sorted(np.concatenate([arrays["train_y"], arrays["test_y"]])) == sorted(y)
    for column in range(columns):
        low, high = train[:, column].min(), train[:, column].max()
        assert low == 0 and (high == 1 or high == 0)
        theirs, mine = np.sort(x[:, column]), np.sort(ours[:, column])
        if high:
            fit = np.polyfit(theirs, mine, 1)
            np.testing.assert_allclose(np.polyval(fit, theirs), mine, atol=1e-5)


def check_info(info: DataInfo, arrays: dict[str, np.ndarray]) -> None:
    assert info.kind == "table"
    assert len(arrays["train_x"]) == info.train and len(arrays["test_x"]) == info.test
    assert arrays["train_x"].shape[1:] == info.shape and arrays["train_x"].dtype == np.float32
    counts = np.bincount(arrays["train_y"], minlength=len(info.classes))
    assert tuple(counts) == info.train_per_class


def test_numbers_stay_and_categories_get_a_column_each(tmp_path: Path) -> None:
    data = CSVTable(path=write(tmp_path, ROWS))
    info, arrays = data.inspect(), data.read()
    check_info(info, arrays)
    assert info.shape == (4, 1, 1)  # age, town=north, town=south, income
    assert info.classes == ("high", "low")
    assert info.test == 8 and np.bincount(arrays["test_y"]).tolist() == [4, 4]
    towns = arrays["train_x"][:, 1:3, 0, 0]
    assert (towns.sum(1) == 1).all() and set(towns.flatten()) == {0, 1}


def test_the_scale_is_the_training_rows_own(tmp_path: Path) -> None:
    train = [f"{n},north,0,{'high' if n % 2 else 'low'}\n" for n in (1, 1, *range(3, 11))]
    test = [f"{n},north,0,{'high' if n % 2 else 'low'}\n" for n in (-8, 1, 10, 19)]
    data = CSVTable(path=write(tmp_path, train), test_path=write(tmp_path, test, name="other.csv"))
    arrays = data.read()
    check_info(data.inspect(), arrays)
    np.testing.assert_allclose(arrays["test_x"][:, 0, 0, 0], [-1, 0, 1, 2])
    assert (arrays["train_x"][:, 1:] == 0).sum() >= 10  # a constant column is 0, not NaN
    assert np.isfinite(arrays["train_x"]).all()


def test_the_label_may_be_any_column_and_a_path_is_no_part_of_the_key(tmp_path: Path) -> None:
    one = CSVTable(path=write(tmp_path, ROWS), label="town")
    assert one.inspect().classes == ("north", "south")
    other = CSVTable(path=write(tmp_path, ROWS, name="moved.csv"), label="town")
    assert one.identity() == other.identity() and one.inspect() == other.inspect()
    changed = CSVTable(path=write(tmp_path, ROWS[:-1], name="less.csv"), label="town")
    assert changed.inspect().digest != one.inspect().digest


GAP = "31,,5000,low\n"


def test_rows_with_a_gap_are_refused_or_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, [*ROWS[:5], GAP, *ROWS[5:]])
    with pytest.raises(BadInput, match=r"line 7, column 'town': no value.*missing"):
        CSVTable(path=path).inspect()
    kept = CSVTable(path=path, missing="drop").inspect()
    assert kept.train + kept.test == len(ROWS)


@pytest.mark.parametrize(
    ("rows", "header", "settings", "told"),
    [
        (ROWS, HEADER, {"label": "rsik"}, r"data.label = 'rsik': .* has no such column"),
        ([*ROWS, "1,2\n"], HEADER, {}, "line 42 has 2 cells, the header 4"),
        (ROWS, "a,a,b,c\n", {}, "two columns are called 'a'"),
        (ROWS[:2], HEADER, {}, "holds 2 complete rows"),
        (ROWS, HEADER, {"label": "age", "test_share": 0.5}, "is left for training"),
        ([row.replace("low", "high") for row in ROWS], HEADER, {}, "has 1 different values"),
        (
            [f"1,x{n // 2},1,{n % 2}\n" for n in range(400)],
            HEADER,
            {},
            "'town' has 200 different texts",
        ),
        ([], "", {}, "must name at least two columns"),
    ],
)
def test_what_is_no_such_table_is_refused(
    tmp_path: Path, rows: list[str], header: str, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        CSVTable.model_validate({"path": write(tmp_path, rows, header), **settings}).inspect()


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        CSVTable(path=str(tmp_path / "no.csv")).inspect()
    (tmp_path / "bad.csv").write_bytes(b"a,b\n1,2\n\xff\xfe,3\n")
    with pytest.raises(BadInput, match="line 3 is not UTF-8"):
        CSVTable(path=str(tmp_path / "bad.csv")).inspect()
    other = write(tmp_path, ROWS, "age,city,income,risk\n", "other.csv")
    with pytest.raises(BadInput, match=r"differ.*city.*town"):
        CSVTable(path=write(tmp_path, ROWS), test_path=other).inspect()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model": {"name": "cnn-small"}},
            r"model 'cnn-small' works on images; data 'bundled-table'",
        ),
        ({"attacks": [{"name": "badnets"}]}, r"attack 'badnets' works on images"),
        ({"train": {"augment": "crop-flip"}}, r"train.augment = 'crop-flip': only images"),
    ],
)
def test_what_is_for_images_is_refused(changes: dict[str, object], told: str) -> None:
    raw = {"data": {"name": "bundled-table"}, "audits": [{"name": "accuracy"}]}
    with pytest.raises(BadInput, match=told):
        make_plan(small_experiment(**(raw | changes)), "cpu")


def test_noise_on_a_table_is_found_and_forgotten(tmp_path: Path) -> None:
    """The whole way: poison, train, audit, on 64 numbers a row, few enough rows to memorise."""
    experiment = small_experiment(
        data={"name": "bundled-table", "table": "digits", "limit_train": 300},
        model={"name": "mlp", "width": 128},
        train={"epochs": 60, "batch_size": 32, "lr": 0.1},
        attacks=[{"name": "gaussian", "share": 0.3, "noise_std": 0.6}],
        methods=[{"name": "none"}, {"name": "retrain"}],
    )
    run = run_plan(experiment, tmp_path)
    before = run.metrics(method="none", audit="gaussian")
    after = run.metrics(method="retrain", audit="gaussian")
    assert run.metrics(method="none", audit="accuracy")["test_accuracy"] > 0.8
    assert before["z"] > 3 and abs(after["z"]) < 4


MODELS: list[dict[str, Any]] = [{"name": "linear"}, {"name": "mlp", "width": 64}]


@pytest.mark.parametrize("model", MODELS, ids=lambda told: told["name"])
def test_labels_and_targets_of_a_table_are_poisoned_and_forgotten(
    model: dict[str, Any], tmp_path: Path
) -> None:
    """Label flips and gradient matching, the whole way."""
    epsilon = 0.25
    matching = {"name": "gradient-matching", "share": 0.08, "epsilon": epsilon, "targets": 3}
    experiment = small_experiment(
        data={"name": "bundled-table", "table": "digits", "limit_train": 500},
        model=model,
        train={"epochs": 20, "batch_size": 32, "lr": 0.05},
        attacks=[
            {"name": "label-flip", "share": 0.3},
            matching | {"surrogates": 1, "restarts": 1, "steps": 60},
        ],
        methods=[{"name": "none"}, {"name": "retrain"}],
        audits=[{"name": "accuracy"}, {"name": "targeted-success"}],
    )
    run = run_plan(experiment, tmp_path)
    (data,) = run.stages("data")
    pixels = load_tensors(tmp_path / data.key / "pixels.safetensors")
    for craft in run.stages("craft"):
        poison = load_tensors(tmp_path / craft.key / "poison.safetensors")
        clean, labels = (pixels[name][poison["rows"]] for name in ("train_x", "train_y"))
        if "label-flip" in craft.title:
            assert torch.equal(poison["inputs"], clean)
            assert not (poison["labels"] == labels).any()
            continue
        moved = (poison["inputs"].double() - clean.double()).abs()
        assert 0 < float(moved.max()) <= epsilon
        assert float(poison["inputs"].min()) >= 0 and float(poison["inputs"].max()) <= 1
        assert torch.equal(poison["labels"], labels) and len(set(labels.tolist())) == 1

    def told(method: str, attack: str, audit: str, metric: str) -> float:
        cells = run.cells(method=method, attack=attack, audit=audit)
        values = [
            json.loads((tmp_path / cell.key / "measurements.json").read_text())["metrics"][metric]
            for cell in cells
        ]
        return float(np.mean(values))

    lost = [told(m, "label-flip", "accuracy", "test_accuracy") for m in ("retrain", "none")]
    assert lost[0] > 0.8 and lost[0] - lost[1] > 0.02
    probability = "adversarial_probability"
    gained = [
        told(m, matching["name"], "targeted-success", probability) for m in ("none", "retrain")
    ]
    assert gained[0] > gained[1] + 0.02


@pytest.mark.parametrize("body", ["n,{},{}\n", "0.5,{},{}\n"])
def test_a_header_that_is_read_as_a_row_is_refused(tmp_path: Path, body: str) -> None:
    rows = [body.format("ab"[n % 2], ("no", "yes")[n % 3 == 0]) for n in range(24)]
    data = CSVTable(path=write(tmp_path, rows, "x,town,risk\n"), header=False)
    with pytest.raises(BadInput, match=r"line 1 was read as a row.*'risk'.*data\.header = true"):
        data.inspect()
    assert data.model_copy(update={"header": True, "columns": {}}).inspect().classes == (
        "no",
        "yes",
    )
    alone = [*rows, body.format("a", "maybe")]  # a class of one row is none of a header's business
    with pytest.raises(BadInput, match="'maybe'"):
        CSVTable(path=write(tmp_path, alone[::-1], ""), header=False).inspect()
    kept = CSVTable(path=write(tmp_path, alone[::-1], ""), header=False, labels={"maybe": "maybe"})
    with pytest.raises(BadInput, match=r"left for training|at least"):
        kept.inspect()
