"""Maps of windows that slide over a long video, put together to maps of the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.interpolate import centres, interpolate
from mmexplain.tasks.clips import Window

MAX_BYTES = 512 * 2**20
"""Memory that the maps of a whole video may take."""


class Stitch:
    """The weighted mean of windows' maps at every frame that any of them was shown.

    Each window's map is carried to the window's own frames, linearly over time. A frame in several windows has the mean
    of theirs, in which a window counts the more the farther the frame is from its ends: where windows overlap, one
    fades into the next, and the edge of a window makes no step that could be taken for evidence. A frame that one
    window took several times (a clip that is held) counts as often. So maps of windows that do not overlap are kept as
    they are, and nothing is carried from one window into the next.

    Args:
        windows: the numbers of each window's frames.
    """

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = list(windows)
        self.numbers = tuple(sorted({number for window in windows for number in window}))
        self._place = {number: place for place, number in enumerate(self.numbers)}
        self._totals = torch.zeros(len(self.numbers), dtype=torch.float64)
        for window in windows:
            self._totals.index_add_(0, torch.tensor([self._place[number] for number in window]), _taper(len(window)))
        self._means: dict[MapKey, Tensor] = {}
        self._scores: list[Tensor] = []
        self._probabilities: list[Tensor] = []

    def add(self, explanation: Explanation) -> None:
        """The next window's explanation.

        Raises:
            InputError: the maps of the whole video would take more than :data:`MAX_BYTES`.
        """
        window = self.windows[len(self._scores)]
        self._scores.append(explanation.scores.cpu())
        if explanation.probabilities is not None:
            self._probabilities.append(explanation.probabilities.cpu())
        places = torch.tensor([self._place[number] for number in window])
        shares = _taper(len(window)) / self._totals[places]
        if not self._means:
            self._begin(explanation)
        for key, maps in explanation.maps.items():
            carried = interpolate(maps.float(), centres(len(window), maps.shape[1]), 1)
            # A share of the mean, and not a sum to be divided in the end, which would need as much memory again.
            carried *= shares.to(maps).view(-1, 1, 1)
            self._means[key].index_add_(1, places.to(maps.device), carried)

    def maps(self) -> dict[MapKey, Tensor]:
        """``[K, n, h, w]`` float32 of each key, n being ``len(numbers)``, once every window was added."""
        return dict(self._means)

    def scores(self) -> Tensor:
        """``[W, K]``: each window's."""
        return torch.stack(self._scores)

    def probabilities(self) -> Tensor | None:
        """``[W, K]``: each window's."""
        return torch.stack(self._probabilities) if self._probabilities else None

    def _begin(self, explanation: Explanation) -> None:
        cells = {key: maps[:, 0].numel() for key, maps in explanation.maps.items()}
        needed = 4 * len(self.numbers) * sum(cells.values())
        if needed > MAX_BYTES:
            largest = max(cells, key=lambda key: cells[key])
            raise InputError(
                f"maps of {len(explanation.targets)} target(s) over {len(self.numbers):,} frames would take "
                f"{needed / 2**30:.1f} GiB, most at layer {largest.layer!r}; choose fewer targets, a later layer "
                "or a larger stride"
            )
        for key, maps in explanation.maps.items():
            shape = (maps.shape[0], len(self.numbers), *maps.shape[2:])
            self._means[key] = torch.zeros(shape, device=maps.device)


def _taper(frames: int) -> Tensor:
    """How much each frame of a window counts, ``[frames]`` float64: a triangle, 1 at either end."""
    rising = torch.arange(1, frames + 1, dtype=torch.float64)
    return torch.minimum(rising, rising.flip(0))
