"""Parts of the test run that a machine may be unable to run, and no others.

A fixture that misses something of the machine's calls `unavailable(part, why)`. Its tests are
then skipped, and counted and named at the end of the run; with `CI=true` they fail. Every other
skip (`pytest.skip`, `pytest.mark.skip`, `pytest.importorskip`) fails: a test that quietly doesn't
run looks like one that passed.
"""

import os
import re
from collections import Counter
from collections.abc import Generator
from typing import NoReturn

import pytest

# Must be the list in README.md, "What may be skipped".
PERMITTED = {
    "chromium": "the tests in a real browser, where Chromium can neither be found nor installed",
    "node": "the tests of the JavaScript client, where there is no Node.js",
}

_REASON = re.compile(r"not available here: (?P<part>[\w-]+): (?P<why>.*)", re.DOTALL)


def unavailable(part: str, why: str) -> NoReturn:
    """Skip the test that is running, or with CI=true fail it, for want of a permitted part.

    Args:
        part: A key of `PERMITTED`.
        why: What is missing and how to get it, in words.
    """
    if part not in PERMITTED:
        pytest.fail(f"{part!r} is not a part that may be skipped: see PERMITTED in {__file__}")
    reason = f"not available here: {part}: {why}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (nothing may be skipped when CI=true)", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_not_permitted(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_not_permitted(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the last words, after pytest's own summary
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    yield
    reports = terminalreporter.stats.get("skipped", [])
    matches = [match for report in reports if (match := _permitted(report))]
    tests = Counter(match["part"] for match in matches)
    if not tests:
        return
    parts = "1 part" if len(tests) == 1 else f"{len(tests)} parts"
    terminalreporter.section(f"{parts} could not run on this machine", yellow=True)
    for part, count in sorted(tests.items()):
        terminalreporter.line(f"{part}: {PERMITTED[part]} ({count} not run)")
        for why in sorted({match["why"] for match in matches if match["part"] == part}):
            terminalreporter.line(f"    {why}")


def _fail_if_not_permitted(report: pytest.TestReport | pytest.CollectReport) -> None:
    # An expected failure (xfail) is reported as skipped, too, but its test did run.
    if not report.skipped or hasattr(report, "wasxfail") or _permitted(report):
        return
    report.outcome = "failed"
    report.longrepr = f"{_skip_reason(report)}\nOnly the parts in {__file__} may be skipped."


def _permitted(report: pytest.TestReport | pytest.CollectReport) -> re.Match[str] | None:
    match = _REASON.fullmatch(_skip_reason(report))
    return match if match and match["part"] in PERMITTED else None


def _skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    # pytest describes a skip by (path, line, "Skipped: reason").
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)
