"""Stages in an object store: sealed last, believed by their checksums, fetched when they lack."""

import contextlib
import itertools
import json
import pathlib

import fsspec
import pytest

from jaxattack import leases, mirror, stages, store, workdir
from jaxattack.errors import UserError

CONTENT = {"weights": bytes(range(256)) * 20, "deep/losses.json": b"[1.0]\n", "empty": b""}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(store, "WAITS", (0.0, 0.0, 0.0))


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    place = f"memory://{tmp_path.name}/run" if request.param == "memory" else f"file://{tmp_path}/m"
    yield place
    fsspec.filesystem("memory").store.clear()


class Disk:
    """A machine with a disk of its own, on which two stages are run, the second from the first."""

    def __init__(self, root):
        self.root = workdir.open_workdir(root)
        self.computed = []

    def write(self, label):
        def fill(folder):
            self.computed.append(label)
            for name, content in CONTENT.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(content + label.encode())

        return fill

    def run(self, url):
        first = stages.Stage(self.root, "k", "first", {}, self.write("first"))
        second = stages.Stage(self.root, "k", "second", {}, self.write("second"), (first,))
        before = len(self.computed)
        with mirror.opened(url, "fragility"):
            self.folders = [stage.run() for stage in (first, second)]
        return self.computed[before:]


@pytest.fixture
def disk(tmp_path):
    numbers = itertools.count()
    return lambda: Disk(tmp_path / f"disk{next(numbers)}")


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_fresh_disk_goes_on_from_the_mirror(url, disk, capsys):
    one, two = disk(), disk()
    assert one.run(url) == ["first", "second"]
    assert two.run(url) == []
    assert "done again" not in capsys.readouterr().err
    for here, there in zip(one.folders, two.folders, strict=True):
        assert files_of(here) == files_of(there)
        assert there.stat().st_mode & 0o777 == 0o755
        # Who may read the original nobody knows, and replies are their owner's.
        assert all(p.stat().st_mode & 0o077 == 0 for p in there.rglob("*") if p.name in CONTENT)
    assert not list((two.root / "stages").glob(".*"))
    place = store.find(url, "--mirror")
    said = json.loads(place.read("mirror.json"))
    assert said["study"] == "fragility"
    assert "not to be published" in said["notice"]


def test_only_what_is_needed_is_fetched(url, disk):
    one, two = disk(), disk()
    one.run(url)
    with mirror.opened(url, "fragility"):
        stages.Stage(two.root, "k", "first", {}, two.write("first")).run()
    assert [path.name for path in (two.root / "stages").iterdir()] == [one.folders[0].name]


def test_what_was_finished_without_a_mirror_is_uploaded_by_the_next_run(url, disk):
    one, two = disk(), disk()
    one.run(None)
    assert one.run(url) == []
    assert two.run(url) == []


@pytest.fixture
def killed_at(monkeypatch):
    """A context in which the program is stopped before it uploads a file, or within that."""

    @contextlib.contextmanager
    def context(count, within=0):
        left, whole = [count], store.Store.put

        def put(self, name, path):
            left[0] -= 1
            if left[0] >= 0:
                return whole(self, name, path)
            if within:  # object stores show nothing of it, a disk shows a part
                self.files.pipe_file(f"{self.root}/{name}", path.read_bytes()[: 7 * within])
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(store.Store, "put", put)
            patch.setattr(mirror, "AT_ONCE", 1)
            yield

    return context


@pytest.mark.parametrize("within", [0, 1, 20])
@pytest.mark.parametrize("count", range(8))
def test_killed_between_any_two_files_half_a_stage_is_not_believed(
    url, disk, killed_at, count, within
):
    one, two, three = disk(), disk(), disk()
    with pytest.raises(KeyboardInterrupt), killed_at(count, within):
        one.run(url)
    assert two.run(url) == (["first", "second"] if count < 4 else ["second"])  # 4 files a stage
    assert files_of(two.folders[1])["weights"] == CONTENT["weights"] + b"second"
    assert three.run(url) == []
    assert one.run(url) == []  # what it finished it kept


@pytest.mark.parametrize("count", range(3))
def test_an_upload_over_an_earlier_one_has_no_seal_until_it_is_whole(url, disk, killed_at, count):
    one, two = disk(), disk()
    one.run(url)
    damaged(url, one, lambda place, name: place.write(f"{name}/weights", b"other"))
    with pytest.raises(KeyboardInterrupt), killed_at(count):
        two.run(url)
    place = store.find(url, "--mirror")
    assert place.read(f"stages/{one.folders[0].name}/stage.json") is None


def damaged(url, one, act):
    place, name = store.find(url, "--mirror"), f"stages/{one.folders[0].name}"
    act(place, name)
    return place, name


def flipped(content, bit):
    other = bytearray(content)
    other[bit // 8 % len(other)] ^= 1 << bit % 8
    return bytes(other)


def with_file(record, name):
    told = json.loads(record)
    return json.dumps({**told, "files": {**told["files"], name: {"bytes": 1, "sha256": "x"}}})


DAMAGE = {
    "other": lambda place, name: place.write(f"{name}/weights", b"other"),
    "cut": lambda place, name: place.write(f"{name}/weights", CONTENT["weights"]),
    "gone": lambda place, name: place.remove(f"{name}/deep/losses.json"),
    "record": lambda place, name: place.write(f"{name}/stage.json", b'{"files": {}}'),
    "no record": lambda place, name: place.write(f"{name}/stage.json", b""),
    "list": lambda place, name: place.write(f"{name}/stage.json", b"[" * 100_000),
    **{
        f"bit {bit} of {file}": lambda place, name, file=file, bit=bit: place.write(
            f"{name}/{file}", flipped(place.read(f"{name}/{file}"), bit)
        )
        for file in ("weights", "stage.json")
        for bit in (0, 77, 4321)
    },
    **{
        f"outside by {path}": lambda place, name, path=path: place.write(
            f"{name}/stage.json", with_file(place.read(f"{name}/stage.json"), path).encode()
        )
        for path in ("../../../taken", "/taken", "a/../../taken", "")
    },
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_object_is_named_and_done_again(url, disk, capsys, damage):
    one, two, three = disk(), disk(), disk()
    one.run(url)
    damaged(url, one, DAMAGE[damage])
    assert two.run(url) == ["first"]
    said = [line for line in capsys.readouterr().err.splitlines() if "done again" in line]
    assert len(said) == 1
    assert said[0].startswith(f"jaxattack: {url}/stages/{one.folders[0].name}: ")
    assert not list(two.root.parent.rglob("taken"))
    assert not list((two.root / "stages").glob(".*"))
    assert three.run(url) == []  # the mirror is whole again


def test_another_steps_files_under_its_name_are_not_taken(url, disk, capsys):
    one, two = disk(), disk()
    one.run(url)
    place, name = damaged(url, one, lambda *_: None)
    for file in ("weights", "deep/losses.json", "empty", "stage.json"):
        place.write(f"{name}/{file}", place.read(f"stages/{one.folders[1].name}/{file}"))
    assert two.run(url) == ["first"]
    assert "stage.json is that of another step" in capsys.readouterr().err


def test_a_damaged_stage_here_is_fetched_anew(url, disk, capsys):
    one = disk()
    one.run(url)
    (one.folders[0] / "weights").write_bytes(b"other")
    assert one.run(url) == []
    assert "done again, with 1 that rest on it" in capsys.readouterr().err
    assert files_of(one.folders[0])["weights"] == CONTENT["weights"] + b"first"


def test_what_another_run_uploads_or_has_uploaded_is_left_to_it(url, disk, monkeypatch):
    one = disk()
    stage = stages.Stage(one.root, "k", "first", {}, one.write("first"))
    with mirror.opened(None, "fragility"):
        stage.run()
    with mirror.opened(url, "fragility"):  # which is empty as yet
        with leases.held(stage.folder):
            assert stage.attempt()
        place = store.find(url, "--mirror")
        assert place.matching("stages/*/*") == []  # who has the lease uploads it
        with mirror.opened(url, "fragility"):
            assert stage.attempt()
        assert len(place.matching("stages/*/*")) > 1
        monkeypatch.setattr(store.Store, "put", lambda *_: pytest.fail("uploaded again"))
        assert stage.attempt()
        assert not mirror.lacks(stage.folder)


@pytest.mark.parametrize("fails", ["put_file", "cat_file", "glob", "get_file"])
def test_what_fails_is_tried_again_and_then_an_error(url, disk, monkeypatch, fails):
    one, two = disk(), disk()
    one.run(url)
    files = type(store.find(url, "--mirror").files)
    whole, left = getattr(files, fails), [3]

    def flaky(self, *arguments, **options):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("the network is down")
        return whole(self, *arguments, **options)

    monkeypatch.setattr(files, fails, flaky)
    assert two.run(url) == []
    damaged(
        url, one, lambda place, name: files.rm_file(place.files, f"{place.root}/{name}/weights")
    )
    left[0] = 10_000
    three = disk()
    with pytest.raises(UserError, match=r"/.*: cannot .*: the network is down"):
        three.run(url)
    assert not list((three.root / "stages").glob(".*"))


def test_a_new_mirror_that_cannot_be_marked_is_an_error(url, disk, monkeypatch):
    files = type(store.find(url, "--mirror").files)

    def fail(*_, **__):
        raise OSError("the network is down")

    monkeypatch.setattr(files, "pipe_file", fail)
    with pytest.raises(UserError, match=r"cannot write mirror.json: the network is down"):
        disk().run(url)


def test_an_upload_that_lost_bytes_is_no_upload(url, disk, monkeypatch):
    files = type(store.find(url, "--mirror").files)
    monkeypatch.setattr(
        files,
        "put_file",
        lambda self, source, target: self.pipe_file(target, pathlib.Path(source).read_bytes()[:3]),
    )
    with pytest.raises(UserError, match=r"cannot write .*: 3 bytes arrived of 11"):
        disk().run(url)


def test_another_studys_mirror_is_refused(url, disk):
    disk().run(url)
    with pytest.raises(UserError, match="it holds the study 'fragility'"), mirror.opened(url, "x"):
        pass


@pytest.mark.parametrize("mark", [None, b"{broken", b"[1]", b'{"a": 1}', b"\xff\xfe"])
def test_a_place_that_holds_other_things_is_refused_and_stays(url, disk, mark):
    place = store.find(url, "--mirror")
    place.write("results.json", b"someone else's")
    if mark is not None:
        place.write("mirror.json", mark)
    with pytest.raises(UserError, match=r"so it is no mirror|is no mirror's"):
        disk().run(url)
    assert place.read("results.json") == b"someone else's"
    assert place.read("mirror.json") == mark


def test_a_mirror_that_cannot_be_written_can_be_resumed_from(url, disk, monkeypatch):
    disk().run(url)
    for name in ("write", "put", "remove"):
        monkeypatch.setattr(store.Store, name, lambda *_: pytest.fail("written"))
    assert disk().run(url) == []


def test_a_runs_own_files_are_uploaded_and_no_others(url, tmp_path):
    for name in ("results.json", "theirs.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "report.html").symlink_to(tmp_path / "theirs.txt")
    paths = [tmp_path / name for name in ("absent.json", "report.html", "results.json")]
    mirror.push_files(tmp_path, paths)  # no mirror is open
    with mirror.opened(url, "fragility"):
        mirror.push_files(tmp_path, paths)
    place = store.find(url, "--mirror")
    assert place.read("results.json") == b"results.json"
    assert place.read("report.html") is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("runs/mirror", "give a URL, such as gs://bucket/run"),
        ("gs://", "give a URL"),
        ("nope://bucket/run", "Protocol not known: nope"),
    ],
)
def test_what_is_no_store_is_named(given, says):
    with pytest.raises(UserError, match=f"--mirror={given}: .*{says}"):
        store.find(given, "--mirror")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError, match=r'pip install "jaxattack\[gcs\]"'):
        store.find("gs://bucket/run", "--mirror")
