"""Leases: one run has one, and it passes on when that run is gone."""

import errno
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

import pytest

from jaxattack import leases, owner

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def target(tmp_path):
    return tmp_path / "kind-label.lease-0123"  # a label may look like that


def other_host():
    host, pid, born = owner.mark().strip("~").split("-")
    return f"~{int(host, 16) ^ 1:08x}-{pid}-{born}~"


def of_a_dead_process():
    script = "from jaxattack import owner; print(owner.mark())"
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def left_by(target, mark, age=0.0):
    """A lease that somebody took and did not give back."""
    path = leases._first(target)
    path.write_text(f"{mark} {random.getrandbits(128):032x}")
    os.utime(path, (time.time() - age,) * 2)


def test_one_has_it_until_it_is_given_back(target):
    lease = leases.take(target)
    assert lease is not None
    assert leases.take(target) is None
    assert leases.take(target.with_name("another"))
    leases.give_back(target, lease)
    again = leases.take(target)
    assert again not in (None, lease)
    leases.give_back(target, again)
    assert not list(target.parent.glob(f".{target.name}*"))
    leases.give_back(target, again)  # twice is no matter
    assert not leases._chain(target)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt, SystemExit])
def test_it_is_given_back_whatever_happens(target, error):
    def work():
        with leases.held(target) as ours, leases.held(target) as also:
            assert (ours, also) == (True, False)
            if error:
                raise error

    if error:
        with pytest.raises(error):
            work()
    else:
        work()
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("mark", "age", "free"),
    [
        (of_a_dead_process, 0, True),
        (owner.mark, 9e9, True),  # of this process, which has forgotten it
        (other_host, 0, False),
        (other_host, 0.9 * leases.EXPIRY, False),
        (other_host, 1.1 * leases.EXPIRY, True),
        (lambda: "", 0, False),  # created, and not yet written
        (lambda: "", 1.1 * leases.EXPIRY, True),
    ],
)
def test_it_runs_out_when_its_process_is_gone(target, mark, age, free):
    left_by(target, mark(), age)
    if not mark():
        leases._first(target).write_text("")
        os.utime(leases._first(target), (time.time() - age,) * 2)
    lease = leases.take(target)
    assert (lease is not None) == free
    if lease is not None:
        assert leases.take(target) is None  # the new one has not run out
        leases.give_back(target, lease)
        assert list(target.parent.iterdir()) == []


def test_a_process_that_ended_and_was_not_asked_how_is_gone(target):
    script = "from jaxattack import owner; print(owner.mark(), flush=True)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    left_by(target, child.stdout.readline().strip())
    while owner._stat(child.pid)[0] != "Z":
        time.sleep(0.02)
    assert leases.take(target)
    child.communicate()


def test_who_lost_it_takes_nobodys(target):
    left_by(target, other_host(), 2 * leases.EXPIRY)
    (slow,) = leases._chain(target)
    lease = leases.take(target)
    leases.give_back(target, slow)  # it was only stopped, and goes on
    assert leases.take(target) is None
    assert leases._chain(target)[-1] == lease


def test_it_is_touched(target, monkeypatch):
    monkeypatch.setattr(owner, "BEAT", 0.01)
    with leases.held(target):
        path = leases._first(target)
        os.utime(path, (0, 0))
        time.sleep(0.2)
        assert path.stat().st_mtime > 0


def test_who_waits_gets_it_after_the_other(target, monkeypatch, capsys):
    monkeypatch.setattr(leases, "SHORTEST", 0.01)
    seen = []

    def other():
        with leases.waited(target):
            seen.append("other")

    with leases.waited(target):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        seen.append("first")
    thread.join()
    assert seen == ["first", "other"]
    assert capsys.readouterr().err == f"jaxattack: waiting for another run at {target.name}\n"


def test_what_ran_out_is_cleared_away(tmp_path):
    left_by(tmp_path / "dead", of_a_dead_process())
    left_by(tmp_path / "other", other_host())
    leases.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".other.lease"]


# --- Two never have one -------------------------------------------------------------------------


class Rival:
    """Takes a lease, gives it back, or loses it, in the middle of what another one does."""

    def __init__(self, target):
        self.target, self.lease = target, None

    def act(self, what):
        if what == "take" and self.lease is None:
            self.lease = leases.take(self.target)
        elif what == "lose" and self.lease:
            leases._ours.discard(self.lease.word)
        elif what == "return" and self.lease:
            leases.give_back(self.target, self.lease)
            self.lease = None

    @property
    def has_it(self):
        return self.lease is not None and self.lease.word in leases._ours


RIVALS = [
    (["take"], ["take"]),
    (["take", "return"], ["take"]),
    (["take", "lose"], ["take"]),
    (["take", "lose"], ["take", "return"]),
    (["take"], ["lose"]),
    (["take", "lose"], ["return", "take"]),
]


@pytest.mark.parametrize("action", ["take", "give back", "give back what ran out"])
@pytest.mark.parametrize("rivals", RIVALS)
def test_whenever_others_come_between_one_has_it(tmp_path, monkeypatch, action, rivals):
    """Two others act before any two of the accesses to files that it is made of."""
    acts = []  # what is left to do before which access
    seen = [0]

    def interrupted(whole):
        def wrapped(*args, **kwargs):
            seen[0] += 1
            while acts and acts[0][0] <= seen[0]:
                rival, what = acts.pop(0)[1:]
                rest, acts[:] = acts[:], []  # it is not interrupted itself
                for step in what:
                    rival.act(step)
                acts[:] = rest
            return whole(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(os, "link", interrupted(os.link))
    for name in ("read_text", "unlink"):
        monkeypatch.setattr(pathlib.Path, name, interrupted(getattr(pathlib.Path, name)))
    for early in range(1, 14):
        for late in range(early, 14):
            target = tmp_path / f"{early}-{late}"
            one, two, three = (Rival(target) for _ in range(3))
            first = leases.take(target)
            if action != "give back":
                leases._ours.discard(first.word)
            seen[0], other = 0, one if rivals[1][0] in ("lose", "return") else two
            acts[:] = [(early, one, rivals[0]), (late, other, rivals[1])]
            if action == "take":
                three.act("take")
            else:
                leases.give_back(target, first)
            acts.clear()
            having = [rival for rival in (one, two, three) if rival.has_it]
            assert len(having) <= 1, (early, late)
            last = leases.take(target)
            assert (last is None) == bool(having), (early, late)


def no_links(*_):
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_of_threads_in_every_order_one_has_it(target, monkeypatch, links):
    """Every access to a file is put off by chance; leases run out, and who lost one returns it."""
    rng = random.Random(links)

    def late(act):
        def wrapped(*args, **kwargs):
            time.sleep(rng.random() * 2e-4)
            return act(*args, **kwargs)

        return wrapped

    if links:
        monkeypatch.setattr(os, "link", late(os.link))
    else:
        monkeypatch.setattr(os, "link", no_links)
        monkeypatch.setattr(leases, "open", late(open), raising=False)
    for name in ("read_text", "unlink"):
        monkeypatch.setattr(pathlib.Path, name, late(getattr(pathlib.Path, name)))
    inside, wins, both = set(), [], []
    end = time.monotonic() + 1.5

    def work(number):
        lost = []
        while time.monotonic() < end:
            lease = leases.take(target)
            if lease is not None:
                inside.add(number)
                both.extend([set(inside)] if len(inside) > 1 else [])
                time.sleep(rng.random() * 3e-4)
                wins.append(number)
                inside.remove(number)
                if rng.random() < 0.4:
                    leases._ours.discard(lease.word)  # it has run out
                    lost.append(lease)
                else:
                    leases.give_back(target, lease)
            if lost and rng.random() < 0.3:
                leases.give_back(target, lost.pop())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both
    assert len(wins) > 50
    assert len(set(wins)) == 6


def test_of_processes_that_are_killed_one_has_it(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HERE / "lease_processes.py"), str(tmp_path), "2"],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    killed, taken, both = map(int, done.stdout.split())
    assert both == 0
    assert killed > 10
    assert taken > 50
