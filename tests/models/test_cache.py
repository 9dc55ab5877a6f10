"""The cache holds whole folders or none, whoever is killed and however many ask at once."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from opportune.errors import ModelError
from opportune.models.cache import cache_folder, cached


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPPORTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def whole(folder):
    (folder / "a").write_text("first")
    (folder / "inner").mkdir()
    (folder / "inner" / "b").write_text("second")


def start(code):
    setup = "import sys; from opportune.models.cache import cached\n"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", setup + code], **pipes)


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    monkeypatch.setenv("OPPORTUNE_CACHE", "/own")
    assert cache_folder() == Path("/own")
    monkeypatch.delenv("OPPORTUNE_CACHE")
    assert cache_folder() == Path("/shared/opportune")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/opportune")


def test_made_once(cache):
    folder = cached("model", whole)
    assert folder == cache / "model"
    assert (folder / "inner" / "b").read_text() == "second"
    assert cached("model", lambda _: pytest.fail("made again")) == folder


@pytest.mark.parametrize("steps", ["", "(folder / 'a').write_text('fir');", "(folder / 'a').write_text('first');"])
def test_a_kill_leaves_nothing_under_the_name_and_the_next_one_starts_clean(cache, steps):
    code = f"""
def make(folder):
    (folder / 'stale').mkdir(); {steps} print('here', flush=True); sys.stdin.read()
cached('model', make)"""
    process = start(code)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cache / "model").exists()
    folder = cached("model", whole)
    assert sorted(path.name for path in folder.rglob("*")) == ["a", "b", "inner"]
    assert [path for path in cache.iterdir() if path.is_dir()] == [folder]


def test_two_processes_at_once_make_it_once(cache):
    code = """
def make(folder):
    (folder / 'a').write_text('first'); print('made', flush=True); sys.stdin.readline()
cached('model', make); print('done', flush=True)"""
    first = start(code)
    assert first.stdout.readline() == "made\n"
    second = start(code)
    first_rest, _ = first.communicate("\n")
    assert first_rest == "done\n"
    assert second.communicate("\n")[0] == "done\n"
    assert (cache / "model" / "a").read_text() == "first"


def test_a_failed_making_leaves_nothing_and_passes_its_error_on(cache):
    def fail(folder):
        (folder / "a").write_text("half")
        raise ModelError("the reason")

    with pytest.raises(ModelError, match="^the reason$"):
        cached("model", fail)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_full_disk_is_one_clear_line(cache):
    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        ModelError, match="cannot write .*model: No space left on device; set OPPORTUNE_CACHE"
    ) as caught:
        cached("model", full)
    assert "\n" not in str(caught.value)
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_made_is_one_clear_line(cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="cannot write .*set OPPORTUNE_CACHE"):
        cached("model", whole)
