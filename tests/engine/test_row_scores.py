"""Which row a stored score belongs to: as new stages say it, as old ones let it be found out, and
where it is lost."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.jobs.row_scores import PLACES_LOST, ROWS_ABSENT, RowScores, read_row_scores
from engine.jobs.runs import Run
from engine.jobs.store import Store
from engine.spec.planned import Stage

AUDIT, CRAFT = "a" * 64, "c" * 64
SCORES = np.array([0.5, 3.0, -1.0])
RANKS = np.array([40, 99, 7])
ROWS = [11, 4, 30]


class Placed:
    """A store with an audit stage and its poison."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.config: dict[str, Any] = {"audit": {"name": "gaussian", "rank_draws": 99}}

    def commit(self, key: str, tensors: dict[str, Any] | None, told: Any = None) -> None:
        with self.store.begin(key, 1) as work:
            if tensors is not None:
                name = "poison" if key == CRAFT else "scores"
                save_file(tensors, work.path / f"{name}.safetensors")
            if told is not None:
                (work.path / "score_rows.json").write_text(json.dumps(told))
            work.commit(kind="audit", title="", seconds=0, tee=0)

    def read(self) -> RowScores | None:
        stage = Stage(AUDIT, "audit", "", self.config, {"craft": CRAFT, "data": "d"})
        run = SimpleNamespace(store=self.store, plan=SimpleNamespace(stages={AUDIT: stage}))
        return read_row_scores(cast(Run, run), AUDIT)

    def known(self) -> RowScores:
        found = self.read()
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path: Path) -> Placed:
    return Placed(tmp_path)


def poison(rows: list[int]) -> dict[str, Any]:
    return {"rows": np.array(rows), "inputs": np.zeros((len(rows), 2), np.float32)}


def test_new_stages_say_it(place: Placed) -> None:
    place.commit(AUDIT, {"scores": SCORES, "ranks": RANKS}, {"rows": ROWS, "scored": None})
    found = place.known()
    assert found.rows is not None and found.ranks is not None
    assert found.scores.tolist() == SCORES.tolist()
    assert (found.rows.tolist(), found.ranks.tolist()) == (ROWS, RANKS.tolist())
    assert (found.draws, found.poisoned, found.lost, found.data) == (99, 3, "", "d")


def test_new_stages_say_which_rows_have_no_score(place: Placed) -> None:
    place.commit(AUDIT, {"scores": SCORES[:2], "ranks": RANKS}, {"rows": ROWS, "scored": [0, 2]})
    found = place.known()
    assert found.rows is not None and found.ranks is not None and found.every_rank is not None
    assert (found.rows.tolist(), found.ranks.tolist()) == ([11, 30], [40, 7])
    assert found.every_rank.tolist() == RANKS.tolist()
    assert (found.poisoned, found.lost) == (3, "")


def test_in_old_stages_the_poison_says_it(place: Placed) -> None:
    place.commit(AUDIT, {"scores": SCORES, "ranks": RANKS})
    place.commit(CRAFT, poison(ROWS))
    found = place.known()
    assert found.rows is not None and found.ranks is not None
    assert (found.rows.tolist(), found.ranks.tolist(), found.lost) == (ROWS, RANKS.tolist(), "")


def test_in_old_stages_places_are_lost_where_rows_were_left_out(place: Placed) -> None:
    place.commit(AUDIT, {"scores": SCORES[:2], "ranks": RANKS})
    place.commit(CRAFT, poison(ROWS))
    found = place.known()
    assert found.rows is None and found.ranks is None and found.lost == PLACES_LOST
    assert found.poisoned == 3
    assert found.every_rank is not None and found.every_rank.tolist() == RANKS.tolist()


def test_without_the_poison_the_rows_have_no_names_but_ranks(place: Placed) -> None:
    """An archive of an old run, without models."""
    place.commit(AUDIT, {"scores": SCORES, "ranks": RANKS})
    found = place.known()
    assert found.rows is None and found.ranks is not None and found.lost == ROWS_ABSENT
    assert found.ranks.tolist() == RANKS.tolist()


@pytest.mark.parametrize("audit", [{"rank_draws": 0}, {"rank_draws": "99"}, {}, {"rank_draws": 50}])
def test_ranks_that_cannot_be_are_none(place: Placed, audit: dict[str, Any]) -> None:
    place.config["audit"] = audit
    place.commit(AUDIT, {"scores": SCORES, "ranks": RANKS}, {"rows": ROWS, "scored": None})
    found = place.known()
    assert found.every_rank is None and found.ranks is None and found.rows is not None


@pytest.mark.parametrize(
    "told",
    [
        {"rows": ROWS}, {"rows": "abc", "scored": None}, {"rows": ROWS, "scored": [0, 1, 9]}, [], 7,
        {"rows": [[1, 2, 3]], "scored": None}, {"rows": [-1, 2, 3], "scored": None},
        {"rows": [1.5, 2, 3], "scored": None}, {"rows": [1, [2], 3], "scored": None},
        {"rows": [10**30, 2, 3], "scored": None}, {"rows": [True, False, True], "scored": None},
    ],
)  # fmt: skip
def test_what_strangers_write_names_nothing(place: Placed, told: Any) -> None:
    place.commit(AUDIT, {"scores": SCORES, "ranks": RANKS}, told)
    found = place.known()
    assert found.rows is None and found.lost == ROWS_ABSENT


@pytest.mark.parametrize(
    "tensors",
    [
        None,
        {"auc": SCORES},
        {"scores": SCORES[None]},
        {"scores": np.array([np.nan, 1.0, 2.0])},
    ],
)
def test_what_are_no_scores_by_row_is_none(place: Placed, tensors: Any) -> None:
    place.commit(AUDIT, tensors)
    assert place.read() is None


def test_damage_is_no_score(place: Placed) -> None:
    place.commit(AUDIT, {"scores": SCORES})
    path = place.store.path(AUDIT) / "scores.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert place.read() is None
