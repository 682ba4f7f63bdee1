"""What a daemon knows of the limits, and from whom."""

from ayb_jobs.runtime.jobs.limits import Limits


def test_until_it_is_known_there_may_be_limits() -> None:
    limits = Limits()
    assert (limits.exist, limits.known) == (True, False)


def test_the_first_look_is_believed_until_the_watch_has_looked() -> None:
    limits = Limits()
    limits.learn_first(exist=False)
    assert not limits.exist
    limits.learn(exist=True)
    assert limits.exist


def test_a_look_that_is_older_than_the_watchs_word_changes_nothing() -> None:
    limits = Limits()
    limits.learn(exist=True)
    limits.learn_first(exist=False)
    assert limits.exist
