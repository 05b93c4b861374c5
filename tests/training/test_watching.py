import json
import logging
import signal
from functools import partial
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from rich.progress import Progress

from imitate.errors import Stopped, UserError
from imitate.training import watching
from imitate.training.watching import NOTICE, Clock, Means, progress, signals, stoppable


@pytest.fixture
def now(monkeypatch):
    """A clock that is set, of this module alone: the event loop of a server in this process would sleep for a day."""
    time = SimpleNamespace(now=100.0)
    time.monotonic = lambda: time.now
    monkeypatch.setattr(watching, "time", time)
    return time


def test_means_are_of_what_is_finite_since_the_last_take():
    means = Means()
    for loss, norm in ((1.0, 4.0), (2.0, float("inf")), (6.0, float("nan"))):
        means.add({"loss": torch.tensor(loss), "norm": torch.tensor(norm)})
    assert means.take() == {"loss": 3.0, "norm": 4.0}
    means.add({"loss": torch.tensor(float("nan"))})
    assert torch.tensor(means.take()["loss"]).isnan() and means.sums == {}


def test_means_are_over_all_processes(monkeypatch):
    """Another process has added a loss of 5 in one step."""
    means = Means()
    means.add({"loss": torch.tensor(1.0)})
    monkeypatch.setattr(watching, "world_size", lambda: 2)
    monkeypatch.setattr(watching.dist, "all_reduce", lambda sums: sums.add_(torch.tensor([[5.0, 1.0]])))
    assert means.take() == {"loss": 3.0}


def test_the_clock_gives_steps_a_second_since_it_was_asked(now):
    clock = Clock(10)
    now.now += 2
    assert clock.rate(16) == 3
    now.now += 4
    assert clock.rate(18) == 0.5
    assert clock.rate(19) == pytest.approx(1e9)  # no time has passed


def test_signals_are_collected_and_a_second_ctrl_c_ends_at_once(caplog):
    caplog.set_level(logging.INFO)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with signals() as received:
        assert received == []
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGINT, signal.SIGTERM] and "stopping after this step" in caplog.text
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with signals() as received:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM] * 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.skipif(not NOTICE, reason="Windows has no SIGUSR1")
def test_a_schedulers_notice_is_collected_by_the_loop_and_ends_at_once_what_comes_before_it(tmp_path):
    before = signal.getsignal(NOTICE[0])
    with pytest.raises(Stopped, match="SIGUSR1"), stoppable(tmp_path / "run"):
        with signals() as received:
            signal.raise_signal(NOTICE[0])
            signal.raise_signal(NOTICE[0])
        assert received == [*NOTICE, *NOTICE]
        signal.raise_signal(NOTICE[0])
    assert signal.getsignal(NOTICE[0]) == before
    assert json.loads((tmp_path / "run/stopped.json").read_text())["signal"] == "SIGUSR1"
    with stoppable(tmp_path / "run"):
        assert not (tmp_path / "run/stopped.json").exists()
    with pytest.raises(UserError), stoppable(tmp_path / "failed"):
        raise UserError("a failure is no stop")
    assert not (tmp_path / "failed").exists()


def _console(monkeypatch, *, terminal: bool) -> StringIO:
    written = StringIO()
    console = Console(file=written, force_terminal=terminal, width=120)
    monkeypatch.setattr(watching, "Progress", partial(Progress, console=console, auto_refresh=False))
    return written


def test_without_a_terminal_a_line_a_minute_says_the_time_left(monkeypatch, caplog, now):
    caplog.set_level(logging.INFO)
    written = _console(monkeypatch, terminal=False)
    with progress(20, 100, shown=True) as advance:
        now.now += 60
        advance(25, "loss 4")
        assert not caplog.records
        now.now += 20
        advance(40, "loss 3")  # 20 steps in 80 s
        now.now += 60
        advance(45, "loss 2")
        now.now += 1
        advance(50, "loss 1")
    assert [record.message for record in caplog.records] == [
        "step 40 of 100, loss 3, 240 s left",
        "step 50 of 100, loss 1, 235 s left",
    ]
    assert not written.getvalue()


def test_a_terminal_has_a_bar_with_the_note_and_no_lines(monkeypatch, caplog, now):
    caplog.set_level(logging.INFO)
    written = _console(monkeypatch, terminal=True)
    with progress(20, 100, shown=True) as advance:
        now.now += 70
        advance(40, "loss 3")
    found = written.getvalue()
    assert "pre-training" in found and "40/100" in found and "loss 3" in found and not caplog.records


def test_other_processes_show_nothing(monkeypatch, caplog, now):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(watching, "Progress", lambda *_: pytest.fail("shown"))
    with progress(0, 10, shown=False) as advance:
        now.now += 99
        advance(5, "loss 3")
    assert not caplog.records
