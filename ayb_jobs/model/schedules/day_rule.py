"""Days that no list of numbers can say: the last, the nearest working day, the second Friday, some years'."""

from calendar import monthrange
from datetime import date

from ayb_jobs.frozen import frozen

MAX_YEAR = 9999
_SATURDAY = 6
# Months that are looked at for a day that matches. Whatever can match does so within 40 years: the 29th of February on
# a given weekday, around a year such as 2100.
_MOST_MONTHS = 12 * 60


@frozen
class DayRule:
    """Days that no list of numbers can say. Weekdays count from Sunday, 0.

    `workdays` are the `n` of `nW`, `last_weekdays` those of `5L`, `nth_weekdays` those of `5#2`; `years` is None for
    all. A date of these months and years matches if its day of the month or its weekday is named; if `both`, each has
    to be.
    """

    days: frozenset[int]
    last_day: bool
    workdays: frozenset[int]
    weekdays: frozenset[int]
    last_weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]]
    both: bool
    months: frozenset[int]
    years: tuple[range, ...] | None

    def next_day(self, day: date) -> date | None:
        """Return the first date from `day` on that matches, or None if there is none."""
        year, month, first = day.year, day.month, day.day
        for _ in range(_MOST_MONTHS):
            allowed = self._next_year(year)
            if allowed is None:
                return None
            if allowed > year:
                year, month, first = allowed, 1, 1
            found = self._in_month(year, month, first) if month in self.months else None
            if found is not None:
                return found
            year, month, first = year + month // 12, month % 12 + 1, 1
        return None

    def _next_year(self, year: int) -> int | None:
        if self.years is None:
            return year if year <= MAX_YEAR else None
        return min((first for first in (_from(years, year) for years in self.years) if first is not None), default=None)

    def _in_month(self, year: int, month: int, first: int) -> date | None:
        last = monthrange(year, month)[1]
        days = (date(year, month, number) for number in range(first, last + 1))
        return next((day for day in days if self._matches(day, last)), None)

    def _matches(self, day: date, last: int) -> bool:
        if self.both:
            return self._names_day(day, last) and self._names_weekday(day, last)
        return self._names_day(day, last) or self._names_weekday(day, last)

    def _names_day(self, day: date, last: int) -> bool:
        if day.day in self.days or (self.last_day and day.day == last):
            return True
        return any(nearest_workday(day.year, day.month, number) == day.day for number in self.workdays)

    def _names_weekday(self, day: date, last: int) -> bool:
        weekday = day.isoweekday() % 7
        if weekday in self.weekdays or (weekday in self.last_weekdays and day.day + 7 > last):
            return True
        return (weekday, (day.day - 1) // 7 + 1) in self.nth_weekdays


def nearest_workday(year: int, month: int, day: int) -> int | None:
    """Return the day from Monday to Friday that is nearest to a day of the month, in the same month.

    None if there is none within two days.
    """
    last = monthrange(year, month)[1]
    for near in (day, day - 1, day + 1, day - 2, day + 2):
        if 1 <= near <= last and date(year, month, near).isoweekday() < _SATURDAY:
            return near
    return None


def _from(years: range, year: int) -> int | None:
    """Return the first of `years` that is `year` or later."""
    first = years.start + max(0, -(-(year - years.start) // years.step)) * years.step
    return first if first in years else None
