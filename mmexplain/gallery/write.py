"""A gallery of a store: cards, mean maps, statistics, errors, another store beside it; it needs no server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmexplain.errors import InputError
from mmexplain.gallery.aggregate import TOP, aggregate
from mmexplain.gallery.cards import Place, card, draw, place_of
from mmexplain.gallery.compare import compare, unpaired
from mmexplain.gallery.compare_pages import MOST_PAIRS, greatest, write_compare_pages
from mmexplain.gallery.folder import FIRST, Folder, telling
from mmexplain.gallery.input_page import write_input_page
from mmexplain.gallery.inputs import seen
from mmexplain.gallery.label_statistics import label_statistics, write_csv
from mmexplain.gallery.mean_maps import write_mean_page
from mmexplain.gallery.pages import Site, counted, names, ratio, some_of
from mmexplain.gallery.query import count, order, select
from mmexplain.gallery.tables import write_errors_page, write_statistics_page
from mmexplain.jobs.store import Store

LIMIT = 500
PER_PAGE = 60

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Written:
    """What came of it.

    Attributes:
        path: of the first page.
        cards: how many maps are shown.
        total: how many there are.
        pages: how many pages of cards.
        inputs: how many inputs have a page of their own.
        lost: how many of these have no photo any more.
        errors: how many inputs of the store could not be explained.
        labels: how many rows the statistics have.
        pairs: how many pairs were compared; None without another store.
        seconds: what it took.
    """

    path: Path
    cards: int
    total: int
    pages: int
    inputs: int
    lost: int
    errors: int
    labels: int
    pairs: int | None
    seconds: float


def write_gallery(
    store: Store,
    out: str | Path,
    *,
    where: str | None = None,
    sort: str | None = None,
    limit: int = LIMIT,
    per_page: int = PER_PAGE,
    against: Store | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a gallery.

    Args:
        store: what is shown.
        out: a folder that is new, empty, or holds an earlier gallery, which is replaced.
        where: an SQL expression over the columns of ``rows``: which maps.
        sort: SQL expressions, each perhaps with DESC: in which order; the store's own where left out.
        limit: how many cards at most.
        per_page: cards of one page.
        against: another store, which is compared with the first.
        progress: told how many inputs of how many are drawn.

    Raises:
        InputError: an expression is wrong, nothing is found, or the folder holds something else.
    """
    started = time.perf_counter()
    folder = Folder(out)
    total = count(store, where)
    order(sort)
    if not total:
        raise InputError(_nothing(store, where))
    rows = select(store, where, sort, limit).to_pylist()
    means = aggregate(store, where or "content", top=TOP) or aggregate(store, where, top=TOP)
    statistics = label_statistics(store, where)
    errors = store.errors()
    compared = None if against is None else compare(store, against, where)
    if against is not None and not compared:
        raise InputError(
            f"{store.root!r} and {against.root!r} have no map of the same label of the same input in common"
        )
    folder.begin()
    tabs: dict[str, int | None] = {"cards": None, "where": None, "statistics": None}
    tabs |= {"compare": None} if against is not None else {}
    tabs |= {"errors": errors.num_rows} if errors.num_rows else {}
    site = Site(folder, store, tabs, where, sort)
    listed = {} if compared is None else greatest(compared, min(limit, MOST_PAIRS))
    pairs = [row for found in listed.values() for row in found]
    wanted = {place_of(row) for row in [*rows, *pairs]}
    others = {place_of(row, "other_") for row in pairs}
    told = _Progress(progress, len({place[0] for place in wanted}) + len({place[0] for place in others}))
    mine = _draw(site, store, wanted, "cards", told, pages=True)
    cards = [card(row, mine.pictures[place_of(row)], "cards") for row in rows]
    site.assets(cards)
    write_statistics_page(site, statistics)
    write_csv(statistics, folder.path / "statistics.csv")
    spoken = store.job.task == "caption" and where is None
    write_mean_page(site, means, f"The labels with most maps{', function words left out' if spoken else ''}")
    if errors.num_rows:
        write_errors_page(site, errors, len(store))
    if compared is not None and against is not None:
        theirs = _draw(site, against, others, "others", told, pages=False)
        write_csv(compared, folder.path / "comparison.csv")
        left = unpaired(store, against, compared, where)
        write_compare_pages(
            site,
            against,
            compared,
            listed,
            (mine.pictures, theirs.pictures),
            (mine.rows, theirs.rows),
            left,
            max(1, per_page // 2),
        )
    pages = _card_pages(site, cards, total, per_page)
    return Written(
        folder.path / FIRST,
        len(cards),
        total,
        pages,
        mine.inputs,
        mine.lost,
        errors.num_rows,
        statistics.num_rows,
        None if compared is None else compared.num_rows,
        time.perf_counter() - started,
    )


@dataclass
class _Drawn:
    """Pictures and rows of the places that were asked for; how many inputs they are of, and how many of these have lost
    their photo."""

    pictures: dict[Place, dict[str, Any]]
    rows: dict[Place, dict[str, Any]]
    inputs: int = 0
    lost: int = 0


class _Progress:
    def __init__(self, tell: Progress | None, total: int) -> None:
        self._tell = tell
        self._total = total
        self._done = 0

    def step(self) -> None:
        """Another input is drawn."""
        self._done += 1
        if self._tell is not None:
            self._tell(self._done, self._total)


def _draw(site: Site, store: Store, places: set[Place], name: str, told: _Progress, *, pages: bool) -> _Drawn:
    """Read the inputs, one after the other; draw what is asked for, and write their pages."""
    drawn = _Drawn({}, {})
    folder = site.folder.sub(name)
    if pages:
        site.folder.sub("inputs")
        frames = site.folder.sub("frames") if store.job.task == "action" else folder
    for number, shown in seen(store, {place[0] for place in places}):
        with telling(folder):
            drawn.pictures |= draw(shown, places, folder)
            if pages:
                write_input_page(site, number, shown, frames)
        drawn.rows |= {place: row for row in shown.rows if (place := place_of(row)) in places}
        drawn.inputs += 1
        drawn.lost += shown.lost is not None
        told.step()
    return drawn


def _card_pages(site: Site, cards: Sequence[Mapping[str, Any]], total: int, per_page: int) -> int:
    """The pages of cards, the first of all at the very end."""
    files = names("page", -(-len(cards) // per_page), FIRST)
    shared = {
        "labels": counted(card["label"] for card in cards),
        "kinds": counted(card["kind"] for card in cards),
        "mades": counted(card["made"] for card in cards),
        "probable": any(card["probability"] is not None for card in cards),
        "frame": ratio(cards),
        "per_page": per_page,
        "pages": files,
        "shown": some_of(len(cards), total, "map"),
    }
    for number in range(len(files), 0, -1):
        part = cards[(number - 1) * per_page : number * per_page]
        site.page(
            files[number - 1], "gallery.html.j2", "Where the model looked", "cards", number=number, cards=part, **shared
        )
    return len(files)


def _nothing(store: Store, where: str | None) -> str:
    """Why there is nothing to show."""
    there = count(store)
    if not there:
        return f"{store.root!r} has no maps yet" if store.missing() else f"{store.root!r} has no maps"
    return f"no map of {store.root!r} is meant by {where!r}: it has {there:,}"
