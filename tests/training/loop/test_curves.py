"""Learning curves: what is read from the table, and where it stands in the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.results.picture_mark import is_picture
from training.loop.curves import COLOURS, POINTS, draw_curves, read_curves

COLUMNS = ("step", "epoch", "learning_rate", "grad_norm", "seconds", "total", "loss_a", "loss_b", "val_map")


def rows(count: int, maps: dict[int, float]) -> list[dict[str, str]]:
    """`count` steps, 10 an epoch, with losses that fall, one that is always 0, and mAP after some steps."""
    found = []
    for step in range(1, count + 1):
        values = (step, step // 10, 0.1, 0, step, 10 / step, 5 / step, 0, "")
        found.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        if step in maps:
            found.append({**dict.fromkeys(COLUMNS, ""), "step": str(step), "val_map": str(maps[step])})
    return found


def test_what_is_drawn() -> None:
    losses, measured = read_curves(rows(40, {10: 0.2, 20: 0.4}), 10)
    assert [curve.name for curve in losses] == ["total", "loss_a"]  # a loss that is 0 is none
    np.testing.assert_allclose(losses[0].x, np.arange(1, 41) / 10)
    np.testing.assert_allclose(losses[1].y, 5 / np.arange(1, 41))
    assert [curve.name for curve in measured] == ["val_map"]
    np.testing.assert_allclose(measured[0].x, [1, 2])
    np.testing.assert_allclose(measured[0].y, [20, 40])


def test_long_runs_are_drawn_as_means() -> None:
    (total, _), _ = read_curves(rows(10 * POINTS, {}), 10)
    assert len(total.x) == POINTS
    steps = np.arange(1, 10 * POINTS + 1).reshape(POINTS, 10)
    np.testing.assert_allclose(total.y, (10 / steps).mean(axis=1))


def test_the_best_epoch_is_marked_where_it_is(tmp_path: Path) -> None:
    """The mark's colour is at the point of the highest mAP, and moves with it."""
    places = []
    for best in (10, 40):
        maps = {10: 0.2, 20: 0.2, 30: 0.2, 40: 0.2, best: 0.5}
        draw_curves(rows(40, maps), tmp_path / "curves.png", "a run", 10)
        picture = cv2.imread(str(tmp_path / "curves.png"))[..., ::-1]
        right = picture[:, picture.shape[1] * 6 // 10 :]
        places.append(np.argwhere((right == COLOURS[0]).all(axis=-1)).mean(axis=0))
    assert places[0][0] == pytest.approx(places[1][0], abs=1)  # of equal height
    assert places[1][1] - places[0][1] > 200


def test_the_same_table_gives_the_same_file(tmp_path: Path) -> None:
    table = rows(25, {10: 0.1, 20: 0.05})
    for name in ("a.png", "b.png"):
        draw_curves(table, tmp_path / name, "a run", 10)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert is_picture((tmp_path / "a.png").read_bytes())


@pytest.mark.parametrize("maps", [{}, {1: 0.0}, {1: 1.0}])
@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_runs(count: int, maps: dict[int, float], tmp_path: Path) -> None:
    draw_curves(rows(count, maps), tmp_path / "curves.png", "short \u202e \n run", 10)
    assert cv2.imread(str(tmp_path / "curves.png")).shape == (480, 1200, 3)


def test_without_a_loss_nothing_is_drawn(tmp_path: Path) -> None:
    draw_curves([], tmp_path / "curves.png", "nothing", 10)
    assert not (tmp_path / "curves.png").exists()
