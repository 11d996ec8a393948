"""How far a program is, by the lines that it prints itself: bars, percents, so many of so many.

A number is taken in forms that are known and nowhere else. What has no times beside it may as
well be a result, so it counts only once it has grown: a page of a report stands still.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qwex_jupyter.display.screen import Screen
from qwex_jupyter.model.text import plain

# So many of the last lines are looked at, so much of each, and not again for so many seconds.
_LINES, _LONGEST, _EVERY = 60, 300, 0.2
# So long it takes at the most until bars below each other are drawn anew. Seconds.
_REDRAWN = 0.5
# What is left is reckoned here after so many seconds, and where so much was done meanwhile.
_WATCHED, _ADVANCED = 5.0, 0.01
# So long a label may be, and so many kinds of progress one program has.
_LABEL, _KINDS = 40, 50

_NUMBER = r"(?P<percent>\d{1,3}(?:\.\d+)?)"
_PERCENT = rf"{_NUMBER} ?%"
_COUNT = r"(?P<done>\d+) ?/ ?(?P<all>\d+)"
_SIZES = r"(?P<done>[\d.]+)/(?P<all>[\d.]+) [kKMGT]?i?B\b"
_TIME = r"(?P<left>\d+(?:[:hms]\d*)+|[-:?]+)"
_BLOCKS = "[━╸╺█▏▎▍▌▋▊▉▓▒░■□▰▱]"
_BAR = rf"(?<!{_BLOCKS}){_BLOCKS}{{5,}}"
_WORDS = "epoch|step|batch|iter|iteration|fold|trial|round"
# Who prints it, and what. A line that has what is left of it is progress whatever it was before.
_FORMS = (
    ("tqdm", rf"(?P<label>.*?){_PERCENT}\|[^|]*\|[^\[|]*\[[\d:]+<{_TIME}.*"),
    ("keras", rf"\s*{_COUNT} +{_BLOCKS}+ +{_TIME} \d+[mun]?s/(?:step|epoch)\b.*"),
    ("keras 2", rf"\s*{_COUNT} +\[[=>.]+\] - ETA: {_TIME}.*"),
    ("pip", rf"(?P<label>.*?){_BAR} +{_SIZES}(?:.*\beta {_TIME})?.*"),
    ("ETA", rf"(?P<label>.*?){_PERCENT}.*\bETA:? *{_TIME}.*"),
    ("alive", rf"(?P<label>[^|]*)\|[^|]*\| *\S* *{_COUNT} \[\d+%\] in \S+ \(~?{_TIME},.*"),
    ("rich", rf"(?P<label>.*?){_BAR} +{_PERCENT}(?: +{_TIME})?\s*"),
    ("click", rf"(?P<label>.*?)\[[#=>-]+ *\] +{_PERCENT}(?: +{_TIME})?\s*"),
    ("rsync", rf"\s*[\d,.]+[KMG]? +{_PERCENT} +[\d.,]+[kMG]?B/s +{_TIME}.*"),
    ("curl", rf"\s*{_NUMBER}(?: +\S+){{7}}(?: +[\d:-]{{7,8}}){{2}} +{_TIME} +\S+\s*"),
    ("wget", rf"\s*\d+K [ .,]{{10,}}{_PERCENT} +[\d.,]+[KMG]? +{_TIME}"),
    # Without times.
    ("wget's bar", rf"(?P<label>\S+) +{_PERCENT}\[[=>< +-]*\].*"),
    ("a bar", rf"\s*#+ +{_PERCENT}\s*|\s*\|=* *\| +{_PERCENT.replace('percent', 'other')}\s*"),
    ("blocks", rf"(?P<label>.*?){_PERCENT} *[|\[]?{_BLOCKS}+[^\d]*"),
    ("git", rf"(?P<label>[\w .:-]+?): +{_PERCENT} \({_COUNT}\).*"),
    ("pip, raw", r"(?P<label>Progress) (?P<done>\d+) of (?P<all>\d+)"),
    ("word", rf"(?P<label>(?:.*\W)?progress)[\s:=]*{_PERCENT}.*"),
    ("percent", rf"\s*[\[(]?{_PERCENT}[\])]?(?: (?:done|completed?))?\s*"),
    ("count", rf"\s*[\[(]?{_COUNT}[\])]?\s*"),
    ("a build", rf"\[ *{_PERCENT}\] .*"),
    ("a build of steps", rf"[\[(]{_COUNT}[\])] .*"),
    ("tests", rf".*\S +\[ *{_PERCENT}\]\s*"),
)
_KEYWORD = (
    rf"(?<!\w)(?P<label>{_WORDS})[\s:=#\[(]*(?P<done>\d+) ?(?:/|of) ?(?P<all>\d+)"
    r"(?![\d/%-]|[.:]\d)"
)


@dataclass(frozen=True)
class Progress:
    """How far a program says that it is.

    Attributes:
        share: From 0 to 1.
        label: What is done, in the program's words; may be "".
        said: What stands beside a bar: ``62%``, or ``3/10`` where these are its words.
        until: When it will be done, seconds since the epoch; None where nobody knows.
    """

    share: float
    label: str = ""
    said: str = ""
    until: float | None = None

    @property
    def percent(self) -> int:
        """How much of it is done, of 100."""
        return int(100 * self.share)

    def left(self, now: float) -> str:
        """How long it still takes, as ``0:42 left``; "" where that isn't known, or over."""
        seconds = 0.0 if self.until is None else self.until - now
        return f"{minutes(seconds)} left" if seconds >= 1 else ""

    def text(self, now: float) -> str:
        """All of it in one line."""
        words = f"{self.label} {self.said}".strip(), self.left(now)
        return " · ".join(word for word in words if word)


def minutes(seconds: float) -> str:
    """A duration as ``3:02``, or ``1:03:02``."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    two = f"{rest % 60:02}"
    return f"{hours}:{rest // 60:02}:{two}" if hours else f"{rest // 60}:{two}"


@dataclass(frozen=True)
class _Mark:
    """What one line says of progress."""

    form: str
    share: float
    label: str
    said: str
    left: float | None
    # Whether there is no doubt that it is progress.
    certain: bool
    # By which the same is known in other lines.
    kind: tuple[str, ...]
    # Which epoch it is about, and of how many; none for (0, 0).
    epoch: tuple[int, int] = (0, 0)


@functools.cache
def _forms() -> tuple[list[tuple[str, re.Pattern[str]]], re.Pattern[str]]:
    """The forms and the keywords, made when the first line may need them: that takes a while."""
    forms = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _FORMS]
    return forms, re.compile(_KEYWORD, re.IGNORECASE)


@functools.lru_cache(maxsize=2048)
def _read(line: str) -> _Mark | None:
    """What a line says; None for nothing."""
    if not ("%" in line or "/" in line or " of " in line or line.count(":") > 5):
        return None
    text = plain(line)
    forms, words = _forms()
    keywords = list(words.finditer(text))
    epoch = (0, 0)
    if keywords and keywords[0]["label"].lower() == "epoch":
        epoch = int(keywords[0]["done"]), int(keywords[0]["all"])
    for form, pattern in forms:
        if (found := pattern.fullmatch(text)) and (mark := _mark(form, found, epoch)):
            return mark
    if not keywords:
        return None
    mark = _mark("keyword", keywords[0], epoch)
    inner = _mark("keyword", keywords[1], epoch) if len(keywords) > 1 else None
    if mark and inner and epoch[1]:  # Epoch [3/10], step [100/600]
        return replace(mark, share=_within(epoch, inner.share), epoch=(0, 0))
    return mark


def _within(epoch: tuple[int, int], inner: float) -> float:
    """How much of all epochs is done: those before this one, and so much of it."""
    number, count = epoch
    return (max(number, 1) - 1 + inner) / count


def _mark(form: str, found: re.Match[str], epoch: tuple[int, int]) -> _Mark | None:
    groups = found.groupdict()
    percent, count = groups.get("percent") or groups.get("other"), groups.get("all") or ""
    if percent:
        share, said = float(percent) / 100, f"{int(float(percent))}%"
    elif not float(count or 0):
        return None
    else:
        share, said = float(groups["done"]) / float(count), f"{groups['done']}/{count}"
    if not 0 <= share <= 1:
        return None
    label = " ".join((groups.get("label") or "").split()).rstrip(":|[- ")
    left = groups.get("left")
    if form in ("pip, raw", "pip"):
        said = f"{int(100 * share)}%"
    return _Mark(
        form=form,
        share=share,
        label=label if len(label) <= _LABEL else f"{label[: _LABEL - 1]}…",
        said=said,
        left=_seconds(left) if left else None,
        certain=bool(left),
        kind=(form, label.lower(), count),
        epoch=epoch,
    )


def _seconds(text: str) -> float | None:
    """A duration as programs print it: ``1:02:03``, ``00:42``, ``1m3s``; None for another."""
    if found := re.fullmatch(r"(?:(\d+):)?(\d+):(\d\d)", text):
        hours, some, rest = found.groups()
        return 3600 * int(hours or 0) + 60 * int(some) + int(rest)
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not text or found is None:
        return None
    hours, some, rest = found.groups()
    return 3600 * int(hours or 0) + 60 * int(some or 0) + int(rest or 0)


@dataclass
class _Seen:
    """What was seen of one kind of progress."""

    share: float
    said: _Mark | None
    # When it was first seen, and how far it was; when it last said something else.
    first: float
    began: float
    last: float
    moved: bool = False


class Meter:
    """What the lines of one run say of its progress, by and by.

    The last that was said holds until something else is said. A bar that is full is over as soon
    as a line follows that is none.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], _Seen] = {}
        self._now: Progress | None = None
        # The epoch that was said last, whether there are bars within, and the one that is over.
        self._epoch, self._inner = (0, 0), False
        self._over: tuple[int, int] | None = None
        # What was said last, and when something was last said that isn't full.
        self._said: object = None
        self._full_at = self._looked_at = 0.0

    def look(self, screen: Screen, now: float, said_at: float | None = None) -> Progress | None:
        """What is known of it, a few times a second at the most.

        Args:
            screen: The output.
            now: Seconds since the epoch.
            said_at: When the last of it was written; None for now.
        """
        if self._looked_at <= now < self._looked_at + _EVERY:
            return self._now
        self._looked_at = now
        return self._look(screen.tail(_LINES), len(screen.unfinished()), min(now, said_at or now))

    def _look(self, lines: Sequence[str], unfinished: int, at: float) -> Progress | None:
        marks = [(n, mark) for n, line in enumerate(lines) if (mark := _read(line[:_LONGEST]))]
        self._note([mark for _, mark in marks], at)
        told = [(n, m) for n, m in marks if m.certain or self._seen[m.kind].moved]
        if told:
            # Of bars below each other the others are part of the first one.
            first = len(lines) - unfinished
            going = [(n, m) for n, m in told if n >= first and m.share < 1]
            number, mark = (going or told[-1:])[0]
            self._full_at = self._full_at if mark.share >= 1 else at
            rest = {n for n, _ in marks}
            later = any(n not in rest and lines[n].strip() for n in range(number, len(lines)))
            before = [m.epoch for n, m in marks if m.epoch[1] and n <= number]
            if before and before[-1] != self._over:
                self._epoch, self._over = before[-1], None
            said, self._said = self._said, (mark, before[-1:])
            full = mark.share >= 1
            if full and later:
                self._now = None
            elif full and unfinished > 1 and at < self._full_at + _REDRAWN:
                self._said = said  # all of them are full for a moment, while they are redrawn
            elif said != self._said:
                self._now = self._made(mark, at)
        return self._now

    def _note(self, marks: Sequence[_Mark], at: float) -> None:
        """Learns what has grown since the last look, and within these lines."""
        shares: dict[tuple[str, ...], list[_Mark]] = {}
        for mark in marks:
            found = shares.setdefault(mark.kind, [])
            if found and mark.share < found[-1].share:
                found.clear()  # it begins anew
            found.append(mark)
        for kind, found in shares.items():
            newest = found[-1]
            seen = self._seen.get(kind)
            if seen is None or newest.share < seen.share:
                moved = found[0].share < newest.share
                self._seen[kind] = _Seen(newest.share, newest, at, newest.share, at, moved)
            elif newest != seen.said:
                seen.moved = seen.moved or newest.share > seen.share
                seen.share, seen.said, seen.last = newest.share, newest, at
        old = [kind for kind in self._seen if kind not in shares]
        for kind in old[: max(0, len(self._seen) - _KINDS)]:
            del self._seen[kind]

    def _made(self, mark: _Mark, at: float) -> Progress:
        """What is shown of it, with what is left: the program's word, or reckoned."""
        seen = self._seen[mark.kind]
        epoch, word = self._epoch, mark.form == "keyword"
        if epoch[1] > 1 and not (word and not (mark.epoch[1] and self._inner)):
            # A bar within an epoch: so many are over, at least, and so much of this one.
            self._inner = self._inner or not word
            share = _within(epoch, 0.0 if word else mark.share)
            seen = self._grown(("epoch", str(epoch[1])), share, at)
            made = Progress(share, "Epoch", f"{epoch[0]}/{epoch[1]}", _reckoned(seen))
        else:
            until = _reckoned(seen) if mark.left is None else seen.last + mark.left
            made = Progress(mark.share, mark.label, mark.said, until)
        if made.share >= 1:  # what comes then is no part of it
            self._epoch, self._over = (0, 0), epoch
        return made

    def _grown(self, kind: tuple[str, ...], share: float, at: float) -> _Seen:
        """What is known of a share that no line says."""
        seen = self._seen.get(kind)
        if seen is None or share < seen.share:
            seen = self._seen[kind] = _Seen(share, None, at, share, at)
        elif share > seen.share:
            seen.share, seen.last = share, at
        return seen


def _reckoned(seen: _Seen) -> float | None:
    """When it will be done, should it go on as it did."""
    watched, advanced = seen.last - seen.first, seen.share - seen.began
    if watched < _WATCHED or advanced < _ADVANCED:
        return None
    return seen.last + watched * (1 - seen.share) / advanced
