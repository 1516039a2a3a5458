"""Run tests against planted faults: everything is imported and collected once, and each fault gets a forked process.

The tests run once without a fault first, in a process of their own, to see which lines each of them reaches, setups of
its fixtures included, and how long it takes. A fault is then shown only to the tests that reach its line, the quickest
first, until one fails. Artifacts that fixtures make once for a whole run are those of the first run: a fault in what
makes them is looked for by the other tests alone.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import coverage
import hypothesis
import pytest

from tests.mutation.grafting import graft
from tests.mutation.operators import Mutant, plant

EXTRA_MEMORY = 4 << 30
"""Bytes that a process may take beyond what it has when it is forked."""

ALL_PASSED, ONE_FAILED = 0, 1
"""Exit statuses of a process that ran tests; others mean that it died."""


@dataclass(frozen=True)
class Baseline:
    """Holds what a run without a fault showed."""

    lines: dict[str, dict[str, list[int]]]
    """Test → file → lines that it reaches."""
    seconds: dict[str, float]
    """Test → how long it took, setups included."""
    failed: list[str]


@dataclass(frozen=True)
class Verdict:
    """Holds what became of one fault."""

    status: str
    """killed, survived, or unreached if no test comes to its line."""
    tests: int
    """Number of tests that were to see it."""
    by: str = ""
    """Test that failed, "time" or "death" of the process."""


class Server:
    """A pytest plugin that runs `work` in place of the tests, once they are collected."""

    def __init__(
        self, sources: Sequence[str], folder: Path, longest_s: float, budget_s: float, work: Callable[[Server], None]
    ) -> None:
        """Prepare the plugin.

        Args:
            sources: paths of the files to plant faults in, from the root of the repository.
            folder: keeps the run without a fault, and what its fixtures made, for the next run.
            longest_s: tests that take longer are left out.
            budget_s: a fault is shown to no more tests than these seconds hold, the quickest of those that reach it.
            work: called with the server after the collection.
        """
        self._sources, self._kept, self._work = sources, folder.resolve(), work
        self._longest, self._budget = longest_s, budget_s
        self._items: dict[str, pytest.Item] = {}
        self._modules: dict[str, ModuleType] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="mutation-"))
        self._failed: list[str] = []
        self._coverage: coverage.Coverage | None = None
        self._stack: list[str] = []
        self._killers: dict[tuple[str, tuple[int, int] | None], list[str]] = defaultdict(list)
        self.baseline: Baseline = Baseline({}, {}, [])

    def pytest_configure(self) -> None:
        fast = {"database": None, "derandomize": True, "deadline": None}
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutation", phases=phases, **fast)
        hypothesis.settings.load_profile("mutation")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        for path in self._sources:
            self._modules[path] = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        try:
            self._work(self)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, Any, Any]:
        """Count the lines of a fixture that several tests share for all of them."""
        shared = fixturedef.scope != "function" and self._coverage is not None
        if shared:
            self._enter(f"fixture {fixturedef.baseid}::{fixturedef.argname}")
        try:
            return (yield)
        finally:
            if shared:
                self._leave()

    def measure(self, digest: str) -> None:
        """Run every test once without a fault, or read what the last run of the same files, by `digest`, showed."""
        cache, made = self._kept / "baseline.json", self._kept / "made-once"
        if cache.is_file():
            stored = json.loads(cache.read_text())
            if stored.pop("digest") == digest:
                self.baseline = Baseline(**stored)
                return
        cache.unlink(missing_ok=True)
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        result = cache.with_suffix(".part")
        status = self._fork(lambda: self._run_baseline(result), limit_s=7200)
        if status != ALL_PASSED:
            raise SystemExit(f"the run without a fault ended with status {status}")
        self.baseline = Baseline(**json.loads(result.read_text()))
        result.unlink()
        cache.write_text(json.dumps({"digest": digest, **asdict(self.baseline)}))

    def require_equal(self, source: str, path: str) -> None:
        """Put a file's own code in its own place, and end the run if a test notices: no verdict would mean anything."""
        tests = [test for test in self._usable(self.baseline.lines) if path in self.baseline.lines[test]]
        if not tests:
            return
        status, by = self._show(path, ast.parse(source), tests)
        if status != ALL_PASSED:
            raise SystemExit(f"{path}: {by} notices a fault where none was planted")

    def judge(self, source: str, path: str, mutant: Mutant) -> Verdict:
        """Show a fault to the tests that reach its line."""
        chosen = self._tests_of(path, mutant)
        if not chosen:
            return Verdict("unreached", 0)
        status, by = self._show(path, plant(source, mutant), chosen)
        if status == ALL_PASSED:
            return Verdict("survived", len(chosen))
        if by in self._items:
            self._killers[path, mutant.function_lines].append(by)
        return Verdict("killed", len(chosen), by)

    def _tests_of(self, path: str, mutant: Mutant) -> list[str]:
        """Return the tests that reach a fault's lines, or its function, or its file; quickest first."""
        first, last = mutant.function_lines or (1, 1 << 30)
        inner = range(mutant.lines[0], mutant.lines[1] + 1) if mutant.function_lines else range(0)
        for wanted in (inner, range(first, last + 1)):
            chosen = [
                test
                for test, files in self.baseline.lines.items()
                if test in self._items and any(line in wanted for line in files.get(path, ()))
            ]
            if chosen:
                break
        killers = self._killers[path, mutant.function_lines][::-1]
        ordered = sorted(
            self._usable(chosen),
            key=lambda t: (killers.index(t) if t in killers else len(killers), self.baseline.seconds[t]),
        )
        spent = accumulate(self.baseline.seconds[test] for test in ordered)
        return [test for test, seconds in zip(ordered, spent, strict=True) if seconds <= self._budget]

    def _usable(self, tests: Iterable[str]) -> list[str]:
        """Leave out tests that take long or fail anyway."""
        return [t for t in tests if self.baseline.seconds[t] <= self._longest and t not in self.baseline.failed]

    def _show(self, path: str, tree: ast.Module, tests: Sequence[str]) -> tuple[int | None, str]:
        """Run tests on changed code until one fails; return the exit status and what ended the run."""
        failed = self._folder / "failed"
        failed.unlink(missing_ok=True)
        limit = 10 + 5 * sum(self.baseline.seconds[test] for test in tests)
        status = self._fork(lambda: self._run_tests(self._modules[path], tree, tests, failed), limit)
        by = failed.read_text() if status == ONE_FAILED and failed.exists() else "time" if status is None else "death"
        return status, by

    def _fork(self, run: Callable[[], NoReturn], limit_s: float) -> int | None:
        """Run in a process of its own; return its exit status, or None if it took too long."""
        base = self._folder / "base"
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir()
        sys.stdout.flush()
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            self._become_child(base)
            try:
                run()
            except BaseException:
                traceback.print_exc()
                os._exit(3)
        while time.monotonic() - started < limit_s:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def _become_child(self, base: Path) -> None:
        os.setsid()
        if not os.environ.get("MUTATION_LOUD"):
            silent = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silent, 1)
            os.dup2(silent, 2)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + EXTRA_MEMORY, resource.RLIM_INFINITY))
        config = next(iter(self._items.values())).config
        config._tmp_path_factory._basetemp = base  # type: ignore[attr-defined]
        (base / "made-once").symlink_to(self._kept / "made-once")

    def _run_baseline(self, result: Path) -> NoReturn:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        data = coverage.Coverage(data_file=None, include=[str(Path(path).resolve()) for path in self._sources])
        self._coverage = data
        data.start()
        seconds: dict[str, float] = {}
        items = list(self._items.values())
        for item, following in zip(items, [*items[1:], None], strict=True):
            started = time.perf_counter()
            self._enter(item.nodeid)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self._leave()
            seconds[item.nodeid] = time.perf_counter() - started
        data.stop()
        reached: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for path in self._sources:
            for line, contexts in data.get_data().contexts_by_lineno(str(Path(path).resolve())).items():
                for context in contexts:
                    reached[context][path].add(line)
        lines: dict[str, dict[str, list[int]]] = {}
        for name, item in self._items.items():
            of_item: dict[str, set[int]] = defaultdict(set)
            for context in (name, *_shared_fixtures(item)):
                for path, found in reached.get(context, {}).items():
                    of_item[path] |= found
            lines[name] = {path: sorted(found) for path, found in of_item.items()}
        result.write_text(json.dumps(asdict(Baseline(lines, seconds, sorted(set(self._failed))))))
        os._exit(ALL_PASSED)

    def _run_tests(self, module: ModuleType, tree: ast.Module, tests: Sequence[str], failed: Path) -> NoReturn:
        try:
            graft(module, tree)
        except Exception as error:
            failed.write_text(f"import: {type(error).__name__}")
            os._exit(ONE_FAILED)
        items = [self._items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                failed.write_text(self._failed[0])
                os._exit(ONE_FAILED)
        os._exit(ALL_PASSED)

    def _enter(self, context: str) -> None:
        self._stack.append(context)
        assert self._coverage is not None
        self._coverage.switch_context(context)

    def _leave(self) -> None:
        self._stack.pop()
        assert self._coverage is not None
        self._coverage.switch_context(self._stack[-1] if self._stack else "")


def _shared_fixtures(item: pytest.Item) -> list[str]:
    found = getattr(item, "_fixtureinfo", None)
    definitions = [d for many in found.name2fixturedefs.values() for d in many] if found else []
    return [f"fixture {d.baseid}::{d.argname}" for d in definitions if d.scope != "function"]
